"""All rows of one node: of the domains it hosts endpoints of, and of the underlay."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.compiler.domain import CompiledDomain, DomainInput, DomainRows, compile_whole
from daemon.compiler.errors import CompileError
from daemon.compiler.incremental import step
from daemon.compiler.members import Changed, Members
from daemon.compiler.result import Compiled, Device, Names, Packed, Rows, Runtime, pack
from daemon.compiler.tiers import concerning, everything
from daemon.compiler.timing import Timed, asleep, first_edge, timed
from daemon.compiler.together import NOTHING, Together, names_together, put_together
from daemon.compiler.underlay import tunnel_mtu, underlay_rows
from daemon.compiler.uplinks import external_rows, ways
from daemon.model.object import AdminPolicy, Domain, Endpoint, Node
from daemon.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class _Underlay:
    """What follows from the nodes alone."""

    basis: tuple[Mapping[str, Node], str, Runtime]
    rows: Rows
    packed: Packed
    names: dict[int, str]
    ids: dict[str, int]
    tunnel_mtu: int


@dataclass(frozen=True, slots=True)
class _Refused:
    """A domain that does not compile."""

    given: DomainInput  # without its endpoints
    error: CompileError


_Known = CompiledDomain | _Refused


@dataclass(slots=True)
class Cache:
    """What the last compilation left, so that a change costs about what it changes.

    Objects are told apart by identity: keep unchanged ones when a snapshot is renewed.
    """

    members: Members | None = None
    underlay: _Underlay | None = None
    domains: dict[str, _Known] = field(default_factory=dict)
    together: Together = NOTHING
    timed: dict[str, tuple[Domain, tuple[AdminPolicy, ...], Timed]] = field(default_factory=dict)

    def timing(self, path: str, domain: Domain, admin: tuple[AdminPolicy, ...]) -> Timed:
        """Rules of a domain that have times."""
        known = self.timed.get(path)
        if known is None or known[0] is not domain or known[1] != admin:
            known = (domain, admin, timed(everything(domain, admin)))
            self.timed[path] = known
        return known[2]

    def forget(self) -> None:
        self.timed = {}
        self.members, self.underlay, self.domains, self.together = None, None, {}, NOTHING


def compile_node(
    snapshot: Snapshot,
    node: str,
    devices: Mapping[str, Device],
    runtime: Runtime,
    cache: Cache | None = None,
    admin: Mapping[str, Snapshot] | None = None,
    moment: datetime | None = None,
) -> Compiled:
    """Every row of every map of `node`, run-time state apart.

    `devices`: by endpoint path, of local endpoints whose device exists. An
    endpoint without one is closed: no row points at it. Same input, same rows,
    whatever the cache holds; their order in a table means nothing. A domain that does
    not compile is in `errors` and has no rows, whatever it had before: its endpoints
    on this node are closed.

    `admin`: by domain, whose administrators' policies are in force there instead.
    `moment`: when this is; None: every rule counts, whatever its times.

    Raises KeyError if the snapshot does not have `node`.
    """
    cache = cache or Cache()
    with _uncollected():
        try:
            return _compile_node(snapshot, node, devices, runtime, cache, admin or {}, moment)
        except BaseException:
            cache.forget()  # it may be between two snapshots
            raise


def _compile_node(
    snapshot: Snapshot,
    node: str,
    devices: Mapping[str, Device],
    runtime: Runtime,
    cache: Cache,
    admin: Mapping[str, Snapshot],
    moment: datetime | None,
) -> Compiled:
    underlay = _underlay(snapshot, node, runtime, cache.underlay)
    members = cache.members
    if members is None or members.node != node:
        cache.domains, members = {}, Members(node)
    changed = members.advance(snapshot.endpoints)
    new: dict[str, _Known] = {}
    sick = dict(runtime.sick)
    edges: list[datetime] = []
    for path in sorted(path for path, local in members.local.items() if local):
        if path not in snapshot.domains:
            continue
        local = sorted(members.local[path])
        policies = concerning(admin.get(path, snapshot).admin_policies.values(), path)
        rules = cache.timing(path, snapshot.domains[path], policies) if moment else ()
        if moment and (edge := first_edge(rules, moment)):
            edges.append(edge)
        given = DomainInput(
            path=path,
            domain=snapshot.domains[path],
            endpoints=(),
            node=node,
            node_ids=underlay.ids,
            devices={p: devices[p] for p in local if p in devices},
            tunnel_mtu=underlay.tunnel_mtu,
            ways=ways(
                snapshot.domains[path],
                snapshot.externals,
                node,
                underlay.ids,
                runtime.down,
                underlay.tunnel_mtu,
            ),
            down=sick.get(path, frozenset()),
            admin=policies,
            asleep=asleep(rules, moment) if moment and rules else frozenset(),
        )
        known = cache.domains.get(path)
        new[path] = _domain(known, given, changed.get(path, {}), members.domains[path])
    parts = {path: one.output for path, one in new.items() if isinstance(one, CompiledDomain)}
    together = put_together(
        parts | _outside(snapshot, node, underlay, runtime, cache), cache.together
    )
    cache.members, cache.underlay, cache.domains = members, underlay, new
    cache.together = together
    return Compiled(
        {**together.rows, **underlay.rows},
        names_together(parts, underlay.names),
        {path: mtu for part in parts.values() for path, mtu in part.mtu.items()},
        {**together.packed, **underlay.packed},
        {path: one.error for path, one in new.items() if isinstance(one, _Refused)},
        min(edges, default=None),
    )


def _outside(
    snapshot: Snapshot, node: str, underlay: _Underlay, runtime: Runtime, cache: Cache
) -> dict[str, DomainRows]:
    """The external networks' rows, beside the domains': they share tables."""
    if not snapshot.externals:
        return {}
    rows = external_rows(snapshot, node, underlay.ids, runtime, underlay.tunnel_mtu)
    before = cache.together.parts.get("")
    if before is not None and before.rows == rows:
        return {"": before}
    return {"": DomainRows(rows, pack(rows), Names())}


def _underlay(
    snapshot: Snapshot, node: str, runtime: Runtime, known: _Underlay | None
) -> _Underlay:
    basis = (snapshot.nodes, node, runtime)
    own = snapshot.nodes[node]
    if known and known.basis[0] is basis[0] and known.basis[1:] == basis[1:]:
        return known
    rows = underlay_rows(snapshot.nodes.values(), own, runtime)
    ids = {name: n.id for name, n in snapshot.nodes.items()}
    return _Underlay(
        basis,
        rows,
        pack(rows),
        {n.id: name for name, n in sorted(snapshot.nodes.items())},
        known.ids if known and known.ids == ids else ids,
        tunnel_mtu(snapshot.nodes.values()),
    )


def _domain(
    known: _Known | None, given: DomainInput, changed: Changed, members: Mapping[str, Endpoint]
) -> _Known:
    """The domain compiled: as it was, as it was but for what changed, or anew."""
    try:
        if known is not None and _same_frame(known.given, given):
            before, now = known.given.devices, given.devices
            moved = [path for path in {**before, **now} if before.get(path) != now.get(path)]
            if moved:
                same = ((path, members.get(path)) for path in moved if path not in changed)
                changed = {**changed, **{path: (one, one) for path, one in same}}
            if not changed:
                return known
            if isinstance(known, CompiledDomain):
                after = step(known, changed, given.devices)
                if after is not None:
                    return after
        return compile_whole(replace(given, endpoints=tuple(sorted(members.items()))))
    except CompileError as error:
        return _Refused(given, error)


def _same_frame(old: DomainInput, new: DomainInput) -> bool:
    """Whether only endpoints and devices may differ."""
    return (
        old.domain is new.domain
        and (old.node, old.tunnel_mtu, old.ways, old.down)
        == (new.node, new.tunnel_mtu, new.ways, new.down)
        and (old.admin, old.asleep) == (new.admin, new.asleep)
        and (old.node_ids is new.node_ids or old.node_ids == new.node_ids)
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Compiling makes rows by the 100,000 and no cycles; walking them again and
    again for garbage took half of the time (measured with 50,000 endpoints)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
