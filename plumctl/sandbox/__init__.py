"""A whole zone on one machine: nodes as network namespaces, each with its own plumd."""
