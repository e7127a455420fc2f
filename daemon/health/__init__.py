"""Whether the backends of load balancers serve, asked by the node that hosts them."""
