"""Desired state in, the rows of every map of one node out. Pure: no I/O, no kernel."""
