"""All rows of one node: of the domains it hosts endpoints of, and of the underlay."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import is_

from daemon.compiler.domain import DomainInput, DomainRows, compile_domain
from daemon.compiler.errors import CompileError
from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.result import Compiled, Device, Names, Rows, Runtime, pack
from daemon.compiler.underlay import tunnel_mtu, underlay_rows
from daemon.model.object import Endpoint
from daemon.model.snapshot import Snapshot


@dataclass(slots=True)
class Cache:
    """Results of the last compilation, so that an unrelated change costs a domain nothing.

    An entry holds while its domain and endpoints are the very same objects: keep
    unchanged objects when a snapshot is renewed.
    """

    entries: dict[str, tuple[DomainInput, DomainRows | CompileError]] = field(default_factory=dict)


def compile_node(
    snapshot: Snapshot,
    node: str,
    devices: Mapping[str, Device],
    runtime: Runtime,
    cache: Cache | None = None,
) -> Compiled:
    """Every row of every map of `node`, run-time state apart.

    `devices`: by endpoint path, of local endpoints whose device exists. An
    endpoint without one is closed: no row points at it. Same input, same rows,
    in the same order. A domain that does not compile is in `errors` and has no
    rows, whatever it had before: its endpoints on this node are closed.

    Raises KeyError if the snapshot does not have `node`.
    """
    with _uncollected():
        return _compile_node(snapshot, node, devices, runtime, cache)


def _compile_node(
    snapshot: Snapshot,
    node: str,
    devices: Mapping[str, Device],
    runtime: Runtime,
    cache: Cache | None,
) -> Compiled:
    own = snapshot.nodes[node]
    rows: Rows = {name: {} for name in APPLY_ORDER}
    rows.update(underlay_rows(snapshot.nodes.values(), own, runtime))
    names = Names(nodes={n.id: name for name, n in sorted(snapshot.nodes.items())})
    compiled = Compiled(rows, names, {}, pack(rows), {})
    old = cache.entries if cache else {}
    new: dict[str, tuple[DomainInput, DomainRows | CompileError]] = {}
    for given in _inputs(snapshot, node, devices):
        known = old.get(given.path)
        result = known[1] if known and _same(known[0], given) else _compile(given)
        new[given.path] = (given, result)
        if isinstance(result, CompileError):
            compiled.errors[given.path] = result
        else:
            _add(compiled, result)
    if cache is not None:
        cache.entries = new
    return compiled


def _inputs(snapshot: Snapshot, node: str, devices: Mapping[str, Device]) -> list[DomainInput]:
    """Of each domain with an endpoint on the node, by path."""
    hosted = {
        f"{e.tenant}/{e.spec.domain}" for e in snapshot.endpoints.values() if e.spec.node == node
    }
    members: dict[str, list[tuple[str, Endpoint]]] = {path: [] for path in sorted(hosted)}
    for path in sorted(snapshot.endpoints):
        endpoint = snapshot.endpoints[path]
        domain = f"{endpoint.tenant}/{endpoint.spec.domain}"
        if domain in members:
            members[domain].append((path, endpoint))
    node_ids = {name: n.id for name, n in snapshot.nodes.items()}
    mtu = tunnel_mtu(snapshot.nodes.values())
    return [
        DomainInput(
            path=path,
            domain=snapshot.domains[path],
            endpoints=tuple(endpoints),
            node=node,
            node_ids=node_ids,
            devices={p: devices[p] for p, e in endpoints if e.spec.node == node and p in devices},
            tunnel_mtu=mtu,
        )
        for path, endpoints in members.items()
        if path in snapshot.domains
    ]


def _same(old: DomainInput, new: DomainInput) -> bool:
    """Equal, objects compared by identity: cheap for many endpoints."""
    return (
        old.domain is new.domain
        and (old.node, old.tunnel_mtu) == (new.node, new.tunnel_mtu)
        and len(old.endpoints) == len(new.endpoints)
        and all(map(is_, (e for _, e in old.endpoints), (e for _, e in new.endpoints)))
        and old.devices == new.devices
        and old.node_ids == new.node_ids
    )


def _compile(given: DomainInput) -> DomainRows | CompileError:
    try:
        return compile_domain(given)
    except CompileError as error:
        return error


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


def _add(compiled: Compiled, part: DomainRows) -> None:
    for name, table in part.rows.items():
        compiled.rows[name].update(table)
    for name, packed in part.packed.items():
        compiled.packed[name].update(packed)
    compiled.names.rules.update(part.names.rules)
    compiled.names.slots.update(part.names.slots)
    compiled.names.domains.update(part.names.domains)
    compiled.names.bridges.update(part.names.bridges)
    compiled.names.routers.update(part.names.routers)
    compiled.mtu.update(part.mtu)
