"""The order of writes in which no row ever points at a missing one.

Additions and changes go first, map by map in APPLY_ORDER: what a row points at
comes before it. Then deletions in reverse. Epochs come last of all: a flow
judged while rows were on their way, old or new, is judged once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from daemon.abi import Row
from daemon.compiler.result import Rows

EPOCH = "plum_epoch"

APPLY_ORDER: tuple[str, ...] = (
    "plum_config",
    "plum_node",
    "plum_vtep",
    "plum_bridge",
    "plum_external",
    "plum_attachment",  # -> external
    "plum_claim",
    "plum_gateway",  # -> node
    "plum_nat_block",
    "plum_floating",
    "plum_uplink",  # -> gateway, nat_block, external
    "plum_span",
    "plum_verdict",  # -> span
    "plum_peer",
    "plum_rif",  # -> bridge
    "plum_host",  # -> rif, bridge, node
    "plum_backend",  # -> host
    "plum_maglev",  # -> backend
    "plum_vip",  # -> maglev
    "plum_public",  # -> host, node
    "plum_hop",  # -> host, bridge
    "plum_route",  # -> hop, rif
    "plum_mac",  # -> rif, bridge, node
    "plum_flood",  # -> bridge, node
    "plum_source",
    "plum_limit",
    "plum_ep",  # -> verdict, bridge; opens the endpoint
    EPOCH,
)


class Write(NamedTuple):
    map: str
    key: Row
    value: Row | None  # None: delete; of an array map: write zeros


def changes(old: Rows, new: Rows) -> Iterator[Write]:
    """What turns `old` into `new`, in order."""
    for name in APPLY_ORDER[:-1]:
        yield from _additions(name, old, new)
    for name in reversed(APPLY_ORDER[:-1]):
        yield from _deletions(name, old, new)
    yield from _additions(EPOCH, old, new)
    yield from _deletions(EPOCH, old, new)


def _additions(name: str, old: Rows, new: Rows) -> Iterator[Write]:
    known = old.get(name, {})
    for key, value in new.get(name, {}).items():
        if known.get(key) != value:
            yield Write(name, key, value)


def _deletions(name: str, old: Rows, new: Rows) -> Iterator[Write]:
    """The last row first, so that a list loses its end before its start."""
    kept = new.get(name, {})
    for key in reversed(old.get(name, {})):
        if key not in kept:
            yield Write(name, key, None)
