"""Which domains a node works for, written down beside what says so: those it hosts
endpoints of, and those that lead out of the zone through it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from daemon.model.derive import gateways_of, uplinks_of
from daemon.model.object import Domain, Endpoint, External, Kind, Object
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Delete, Put
from daemon.zone.keys import placement_key
from daemon.zone.plan import Change


def placement_of(endpoint: Endpoint) -> str:
    """The key that says that the endpoint's node hosts its domain."""
    return placement_key(endpoint.spec.node, f"{endpoint.tenant}/{endpoint.spec.domain}")


def placements(endpoints: Iterable[Endpoint]) -> set[str]:
    return set(map(placement_of, endpoints))


def gateway_placements(
    domains: Mapping[str, Domain], externals: Mapping[str, External]
) -> set[str]:
    """Keys of the nodes that are gateways of these domains."""
    return {
        placement_key(node, path)
        for path, domain in domains.items()
        for _, _, uplink in uplinks_of(domain.spec)
        if uplink.network in externals
        for node in gateways_of(externals[uplink.network].spec)
    }


def placement_writes(before: Snapshot, changes: Sequence[Change]) -> list[Put | Delete]:
    """What keeps the placement keys true when `changes` happen to `before`.

    Only who lost an endpoint or a gateway costs a look at all endpoints.
    """
    gained, lost = set[str](), set[str]()
    for change in changes:
        was, now = _place(change.before), _place(change.after)
        if was != now:
            gained |= now
            lost |= was
    led, leads = _gateways(before, changes)
    gained |= leads - led
    lost |= led - leads
    lost -= gained
    if lost:
        lost -= leads
        changed = {change.ref.path for change in changes if _place(change.before)}
        staying = (e for path, e in before.endpoints.items() if path not in changed)
        lost -= placements(staying)
        for change in changes:
            lost -= _place(change.after)
    return [*(Put(key, b"") for key in sorted(gained)), *(Delete(key) for key in sorted(lost))]


def _gateways(before: Snapshot, changes: Sequence[Change]) -> tuple[set[str], set[str]]:
    """Gateways' keys before and after, of every domain the changes touch."""
    touched = {path for change in changes for path in _domains(change)}
    externals = dict(before.externals)
    for change in changes:
        if change.ref.kind is Kind.EXTERNAL:
            externals.pop(change.ref.path, None)
            if isinstance(change.after, External):
                externals[change.ref.path] = change.after
    was = dict(before.domains)
    if externals == before.externals:
        was = {path: was[path] for path in touched if path in was}
    now = dict(was)
    for change in changes:
        if change.ref.kind is Kind.DOMAIN:
            now.pop(change.ref.path, None)
            if isinstance(change.after, Domain):
                now[change.ref.path] = change.after
    return gateway_placements(was, before.externals), gateway_placements(now, externals)


def _domains(change: Change) -> list[str]:
    match change.ref.kind:
        case Kind.DOMAIN:
            return [change.ref.path]
        case Kind.ENDPOINT:
            return [change.ref.path.rpartition("/")[0]]
        case _:
            return []


def _place(item: Object | None) -> set[str]:
    return {placement_of(item)} if isinstance(item, Endpoint) else set()
