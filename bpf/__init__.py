"""The compiled datapath, as package data: `plum.bpf.o`. Sources beside it."""
