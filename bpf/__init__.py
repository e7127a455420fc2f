"""The datapath's C sources; a build puts the compiled objects beside them."""
