"""Store -> objects: decode, list, and follow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from daemon.model.object import (
    OBJECT_TYPES,
    AdminPolicy,
    Domain,
    Endpoint,
    External,
    Kind,
    Node,
    Object,
    Ref,
    Tenant,
)
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Batch, Item, Listing, Store, StoreError
from daemon.zone.keys import OBJECT_PREFIXES, ZONE, object_key, split_key

#: The zone as it last was, by store: an object changes only together with keys.ZONE.
_current: WeakKeyDictionary[Store, tuple[tuple[int, bytes], Snapshot]] = WeakKeyDictionary()


class ForeignObjectError(StoreError):
    """A stored object says something this plumd does not know: a later one wrote it.

    To pass over what is not understood could open what a rule of the later model
    closes; so nothing of that state is used.
    """

    def __init__(self, kind: Kind, value: bytes, error: ValidationError) -> None:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        super().__init__(
            f"{kind} {_path_in(value)} in the store is not understood ({where}: {first['msg']});"
            " a later plumd wrote it: upgrade plumd on this node; until then the last state"
            " that was understood goes on"
        )


def _path_in(value: bytes) -> str:
    """The path of an object of which only the outside is sure."""
    try:
        found = json.loads(value)
        spec = found.get("spec") or {}
        parts = (found.get("tenant"), spec.get("domain"), found.get("name"))
        return "/".join(str(part) for part in parts if part)
    except (ValueError, AttributeError):
        return "?"


def encode(item: Object) -> bytes:
    """What the user said and what was allocated; nothing left to a default is written."""
    return item.model_dump_json(exclude_unset=True).encode()


@lru_cache(maxsize=32768)
def decode(kind: Kind, value: bytes) -> Object:
    """The object of a stored value. Pure, and remembered: most of a zone stays as it is.

    Raises ForeignObjectError.
    """
    try:
        return OBJECT_TYPES[kind].model_validate_json(value)
    except ValidationError as error:
        raise ForeignObjectError(kind, value, error) from error


async def read_object(store: Store, ref: Ref) -> tuple[Object, int] | None:
    """The object and the revision it was last written at."""
    item = await store.get(object_key(ref))
    return (decode(ref.kind, item.value), item.mod_revision) if item else None


def snapshot_of(listing: Listing) -> Snapshot:
    """The objects of a listing; keys that hold something else are passed over."""
    return _snapshot(listing.items, listing.revision)


async def read_snapshot(store: Store) -> Snapshot:
    """All objects as they were together at `revision`; watch OBJECT_PREFIXES from there."""
    _, snapshot = await read_together(store)
    return snapshot


async def read_together(store: Store) -> tuple[Item | None, Snapshot]:
    """What keys.ZONE holds and the objects that go with it.

    History is not read: it outgrows the objects. Several listings are one state
    when no change of the zone fell between the first and the last.
    """
    while True:
        zone = await store.get(ZONE)
        listings = [await store.list(prefix) for prefix in OBJECT_PREFIXES]
        if _mod_revision(await store.get(ZONE)) == _mod_revision(zone):
            items = (item for listing in listings for item in listing.items)
            return zone, _snapshot(items, max(listing.revision for listing in listings))


async def read_current(store: Store) -> tuple[Item | None, Snapshot]:
    """`read_together`, without listing anything again while keys.ZONE is as it was.

    For who changes the zone or asks about a change of it. To start a watch from,
    the snapshot's revision may be too old.
    """
    zone, known = await store.get(ZONE), _current.get(store)
    if zone is not None and known is not None and known[0] == (zone.mod_revision, zone.value):
        return zone, known[1]
    zone, snapshot = await read_together(store)
    if zone is not None:
        remember(store, zone.mod_revision, zone.value, snapshot)
    return zone, snapshot


def remember(store: Store, revision: int, zone: bytes, snapshot: Snapshot) -> None:
    """The objects that go with a revision and value of keys.ZONE."""
    _current[store] = ((revision, zone), snapshot)


def advance(snapshot: Snapshot, batch: Batch) -> Snapshot:
    """The snapshot after one batch of a watch on OBJECT_PREFIXES. Safe to repeat."""
    tables: dict[Kind, dict[str, Any]] = {}
    for change in batch.changes:
        if (place := split_key(change.key)) is None:
            continue
        kind, path = place
        table = tables.setdefault(kind, dict(table_of(snapshot, kind)))
        if change.item is None:
            table.pop(path, None)
        else:
            table[path] = decode(kind, change.item.value)
    return _with_tables(snapshot, batch.revision, tables)


def table_of(snapshot: Snapshot, kind: Kind) -> Mapping[str, Object]:
    """The snapshot's objects of one kind, by path."""
    tables: dict[Kind, Mapping[str, Object]] = {
        Kind.TENANT: snapshot.tenants,
        Kind.NODE: snapshot.nodes,
        Kind.DOMAIN: snapshot.domains,
        Kind.ENDPOINT: snapshot.endpoints,
        Kind.EXTERNAL: snapshot.externals,
        Kind.ADMIN_POLICY: snapshot.admin_policies,
    }
    return tables[kind]


def replaced(snapshot: Snapshot, revision: int, items: Mapping[Ref, Object | None]) -> Snapshot:
    """The snapshot with these objects as they are now; None: gone."""
    tables: dict[Kind, dict[str, Any]] = {}
    for ref, item in items.items():
        table = tables.setdefault(ref.kind, dict(table_of(snapshot, ref.kind)))
        if item is None:
            table.pop(ref.path, None)
        else:
            table[ref.path] = item
    return _with_tables(snapshot, revision, tables)


def _with_tables(
    snapshot: Snapshot, revision: int, tables: Mapping[Kind, dict[str, Any]]
) -> Snapshot:
    return Snapshot(
        revision=revision,
        tenants=tables.get(Kind.TENANT, snapshot.tenants),
        nodes=tables.get(Kind.NODE, snapshot.nodes),
        domains=tables.get(Kind.DOMAIN, snapshot.domains),
        endpoints=tables.get(Kind.ENDPOINT, snapshot.endpoints),
        externals=tables.get(Kind.EXTERNAL, snapshot.externals),
        admin_policies=tables.get(Kind.ADMIN_POLICY, snapshot.admin_policies),
    )


def find(snapshot: Snapshot, ref: Ref) -> Object | None:
    return table_of(snapshot, ref.kind).get(ref.path)


def _mod_revision(item: Item | None) -> int:
    return item.mod_revision if item else 0


def _snapshot(items: Iterable[Item], revision: int) -> Snapshot:
    tenants: dict[str, Tenant] = {}
    nodes: dict[str, Node] = {}
    domains: dict[str, Domain] = {}
    endpoints: dict[str, Endpoint] = {}
    externals: dict[str, External] = {}
    admin_policies: dict[str, AdminPolicy] = {}
    for item in items:
        if (place := split_key(item.key)) is None:
            continue
        kind, path = place
        match decode(kind, item.value):
            case Tenant() as tenant:
                tenants[path] = tenant
            case Node() as node:
                nodes[path] = node
            case Domain() as domain:
                domains[path] = domain
            case Endpoint() as endpoint:
                endpoints[path] = endpoint
            case External() as external:
                externals[path] = external
            case AdminPolicy() as policy:
                admin_policies[path] = policy
    return Snapshot(revision, tenants, nodes, domains, endpoints, externals, admin_policies)
