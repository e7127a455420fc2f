"""A zone's endpoints by domain and by node, kept from one change to the next.

A change of one endpoint among 50,000 should not cost a look at each in every check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.model.difference import difference
from daemon.model.endpoint import EndpointSpec
from daemon.model.object import Endpoint

#: Paths by domain or node; the lists are never changed, only replaced.
Groups = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Index:
    endpoints: Mapping[str, Endpoint]
    specs: dict[str, EndpointSpec]
    by_domain: Groups
    by_node: Groups


#: Of the last zone asked about. One reference: replaced whole, so threads may race for it.
_last = Index({}, {}, {}, {})


def index_of(endpoints: Mapping[str, Endpoint]) -> Index:
    """The index of these endpoints; cheap if they are nearly those asked about last."""
    global _last
    known = _last
    if known.endpoints is not endpoints:
        _last = known = _advance(known, endpoints)
    return known


def regroup(groups: Groups, moves: Mapping[str, tuple[str | None, str | None]]) -> Groups:
    """Groups after paths have moved from one to another; None: from or to nowhere."""
    if not moves:
        return groups
    out: dict[str, set[str]] = {}
    into: Groups = {}
    for path, (was, now) in moves.items():
        if was is not None:
            out.setdefault(was, set()).add(path)
        if now is not None:
            into.setdefault(now, []).append(path)
    after = dict(groups)
    for group in {**out, **into}:
        gone = out.get(group, ())
        kept = [path for path in after.get(group, ()) if path not in gone]
        after[group] = kept + into.get(group, [])
        if not after[group]:
            del after[group]
    return after


def domain_of(path: str) -> str:
    """The domain's path of an endpoint's."""
    return path.rpartition("/")[0]


def _advance(old: Index, endpoints: Mapping[str, Endpoint]) -> Index:
    changed, gone = difference(old.endpoints, endpoints)
    specs = dict(old.specs)
    domains: dict[str, tuple[str | None, str | None]] = {}
    nodes: dict[str, tuple[str | None, str | None]] = {}
    for path in gone:
        nodes[path] = (specs.pop(path).node, None)
        domains[path] = (domain_of(path), None)
    for path in changed:
        was, now = specs.get(path), endpoints[path].spec
        specs[path] = now
        if was is None:
            domains[path] = (None, domain_of(path))
        if was is None or was.node != now.node:
            nodes[path] = (was.node if was else None, now.node)
    return Index(endpoints, specs, regroup(old.by_domain, domains), regroup(old.by_node, nodes))
