"""The order in which maps are written so that no row points at a missing one.

Additions and changes go in this order, deletions in reverse. What a row points
at comes before it; plum_ep opens an endpoint and plum_epoch makes its flows be
judged again, so both come after everything that decides.
"""

from __future__ import annotations

APPLY_ORDER: tuple[str, ...] = (
    "plum_config",
    "plum_node",
    "plum_vtep",
    "plum_bridge",
    "plum_span",  # ids of lists are content: never changed, only added
    "plum_verdict",  # -> span
    "plum_peer",
    "plum_rif",  # -> bridge
    "plum_host",  # -> rif, node
    "plum_hop",  # -> host
    "plum_route",  # -> hop, bridge
    "plum_mac",  # -> rif, node
    "plum_flood",  # -> node
    "plum_source",
    "plum_ep",  # -> verdict, bridge
    "plum_epoch",
)
