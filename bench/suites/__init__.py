"""One module per suite; each has `run(plan)`, which returns its rows."""
