"""One file per command: parse, call, emit."""
