"""Which domains a node hosts endpoints of, written down beside the endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from daemon.model.object import Endpoint, Object
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Delete, Put
from daemon.zone.keys import placement_key
from daemon.zone.plan import Change


def placement_of(endpoint: Endpoint) -> str:
    """The key that says that the endpoint's node hosts its domain."""
    return placement_key(endpoint.spec.node, f"{endpoint.tenant}/{endpoint.spec.domain}")


def placements(endpoints: Iterable[Endpoint]) -> set[str]:
    return set(map(placement_of, endpoints))


def placement_writes(before: Snapshot, changes: Sequence[Change]) -> list[Put | Delete]:
    """What keeps the placement keys true when `changes` happen to `before`.

    Only who lost an endpoint costs a look at all endpoints.
    """
    gained, lost = set[str](), set[str]()
    for change in changes:
        was, now = _place(change.before), _place(change.after)
        if was != now:
            gained |= now
            lost |= was
    lost -= gained
    if lost:
        changed = {change.ref.path for change in changes if _place(change.before)}
        staying = (e for path, e in before.endpoints.items() if path not in changed)
        lost -= placements(staying)
        for change in changes:
            lost -= _place(change.after)
    return [*(Put(key, b"") for key in sorted(gained)), *(Delete(key) for key in sorted(lost))]


def _place(item: Object | None) -> set[str]:
    return {placement_of(item)} if isinstance(item, Endpoint) else set()
