"""One module per tool. What decides is pure; connections are given to it."""
