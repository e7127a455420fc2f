"""Names of domains, answered to their endpoints by the node that hosts them."""
