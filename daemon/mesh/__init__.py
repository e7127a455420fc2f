"""What the underlay is like, as measured between VTEPs through the datapath."""
