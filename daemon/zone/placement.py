"""Which domains a node hosts endpoints of, written down beside the endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from daemon.model.object import Endpoint, Object
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Compare, Delete, Put, Store
from daemon.zone.keys import PLACED, PLACEMENT, ZONE, placement_key
from daemon.zone.plan import Change
from daemon.zone.read import read_current

#: Keys one transaction of `complete_placements` writes; etcd takes 128 by default.
CHUNK = 100


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


async def complete_placements(store: Store) -> None:
    """Give every endpoint its placement key, once in the life of a zone.

    A zone written before there were such keys has none, and a node that believed that
    would drop all it hosts. Each step is written only to the zone it was worked out
    for. Raises StoreError.
    """
    while await store.get(PLACED) is None:
        zone, snapshot = await read_current(store)
        wanted = placements(snapshot.endpoints.values())
        held = {item.key for item in (await store.list(PLACEMENT)).items}
        missing = sorted(wanted - held)[:CHUNK]
        writes = [Put(key, b"") for key in missing or [PLACED]]
        await store.commit([Compare(ZONE, zone.mod_revision if zone else 0)], writes)
