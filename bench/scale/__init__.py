"""A thousand nodes without kernels: what a change of the zone costs whom, and how soon it is there."""
