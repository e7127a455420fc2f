"""plumctl: the command line of Plum."""
