"""The part of the zone one node needs: nodes, external networks, administrators' policies,
and the domains it hosts endpoints of or is a gateway of.

The node's placement keys say which domains. They change in the same revision as the
endpoints, so whoever follows them learns of a new domain at the moment it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from daemon.model.object import Domain, Endpoint, Kind
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Batch, Store
from daemon.zone.keys import RESTORE, ROOT, placement_prefix
from daemon.zone.read import advance, decode, snapshot_of

NODES = f"{ROOT}{Kind.NODE}/"
ADMIN_POLICIES = f"{ROOT}{Kind.ADMIN_POLICY}/"
EXTERNALS = f"{ROOT}{Kind.EXTERNAL}/"
#: Domains listed at once by a node that starts.
AT_ONCE = 8


def domain_key(path: str) -> str:
    return f"{ROOT}{Kind.DOMAIN}/{path}"


def endpoints_prefix(domain: str) -> str:
    return f"{ROOT}{Kind.ENDPOINT}/{domain}/"


@dataclass(frozen=True, slots=True)
class Scoped:
    """What a node knows, as of `snapshot.revision`.

    What is listed later than the rest stands at may be ahead of it. `base` and `ahead`
    keep the newest revisions seen there; once the watch has come as far, every key is
    what it was at the watch's revision, and the whole is one state.
    """

    node: str
    snapshot: Snapshot
    placed: frozenset[str]  # domains that placement names
    base: int  # newest revision seen of a node, an external network or an administrator's policy
    ahead: Mapping[str, int] = field(default_factory=dict)  # the same, of each listed domain

    @property
    def revision(self) -> int:
        return self.snapshot.revision

    @property
    def listed(self) -> bool:
        """Exactly the placed domains are here; else `enter` is due, and a new watch."""
        return self.ahead.keys() == self.placed

    @property
    def complete(self) -> bool:
        return self.listed and max(self.base, *self.ahead.values(), 0) <= self.revision

    @property
    def prefixes(self) -> tuple[str, ...]:
        """To watch from `revision`, together with `keys`."""
        mine = (NODES, EXTERNALS, ADMIN_POLICIES, placement_prefix(self.node))
        return (*mine, *(endpoints_prefix(path) for path in sorted(self.placed)))

    @property
    def keys(self) -> frozenset[str]:
        """Exact: a prefix `domain/acme/shop` would bring shop-2's changes as well."""
        return frozenset((*map(domain_key, self.placed), RESTORE))

    def after(self, batch: Batch) -> Scoped:
        """The state after one batch of its watch."""
        prefix = placement_prefix(self.node)
        placed = set(self.placed)
        for change in batch.changes:
            if change.key.startswith(prefix):
                path = change.key.removeprefix(prefix)
                (placed.add if change.item else placed.discard)(path)
        return replace(
            self,
            snapshot=advance(self.snapshot, batch),
            placed=self.placed if placed == self.placed else frozenset(placed),
        )


async def read_base(store: Store, node: str) -> Scoped:
    """The nodes and the node's placements, at one revision or a little apart: the watch
    from the older one brings what lies between. Raises StoreError."""
    placed = await store.list(placement_prefix(node))
    nodes = await store.list(NODES)
    externals = await store.list(EXTERNALS)
    policies = await store.list(ADMIN_POLICIES)
    prefix = placement_prefix(node)
    everywhere = (*nodes.items, *externals.items, *policies.items)
    found = snapshot_of(replace(nodes, items=everywhere))
    snapshot = replace(found, revision=placed.revision)
    paths = frozenset(item.key.removeprefix(prefix) for item in placed.items)
    newest = max((item.mod_revision for item in everywhere), default=0)
    return Scoped(node, snapshot, paths, newest)


async def enter(store: Store, state: Scoped) -> Scoped:
    """List the domains that were placed since, drop those that no longer are.

    Raises StoreError.
    """
    gone = state.ahead.keys() - state.placed
    domains = {path: d for path, d in state.snapshot.domains.items() if path not in gone}
    endpoints = dict(state.snapshot.endpoints)
    if gone:
        endpoints = {p: e for p, e in endpoints.items() if p.rpartition("/")[0] not in gone}
    ahead = {path: newest for path, newest in state.ahead.items() if path not in gone}
    gate = asyncio.Semaphore(AT_ONCE)
    new = sorted(state.placed - ahead.keys())
    for path, (domain, members, newest) in zip(
        new, await asyncio.gather(*(_list(store, gate, path) for path in new)), strict=True
    ):
        ahead[path] = newest
        endpoints.update(members)
        if domain is not None:
            domains[path] = domain
    snapshot = replace(state.snapshot, domains=domains, endpoints=endpoints)
    return replace(state, snapshot=snapshot, ahead=ahead)


async def _list(
    store: Store, gate: asyncio.Semaphore, path: str
) -> tuple[Domain | None, dict[str, Endpoint], int]:
    """A domain, its endpoints by path, and the newest revision among them."""
    async with gate:
        item = await store.get(domain_key(path))
        listing = await store.list(endpoints_prefix(path))
    domain = decode(Kind.DOMAIN, item.value) if item else None
    members: dict[str, Endpoint] = {}
    newest = item.mod_revision if item else 0
    for one in listing.items:
        endpoint = decode(Kind.ENDPOINT, one.value)
        assert isinstance(endpoint, Endpoint)
        members[f"{path}/{endpoint.name}"] = endpoint
        newest = max(newest, one.mod_revision)
    assert domain is None or isinstance(domain, Domain)
    return domain, members, newest
