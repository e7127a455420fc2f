"""Checks across the zone: references between objects, removals, nodes, MTUs."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.model.base import Address
from daemon.model.derive import overlay_mtu_bytes, tunnel_overhead_bytes
from daemon.model.domain import Bridge
from daemon.model.node import Role
from daemon.model.object import Kind, Ref
from daemon.zone.addresses import unusable
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

MAX_NODES = 4095  # the datapath's node index: PLUM_MAX_NODES of bpf/lib/abi.h, without 0
MIN_IPV6_MTU_BYTES = 1280  # RFC 8200, section 5


def check_removed(edit: Edit, problems: Problems) -> None:
    """Nothing is removed while something that stays refers to it."""
    for ref in edit.removed:
        match ref.kind:
            case Kind.TENANT:
                held = [path for path in edit.domains if path.startswith(f"{ref.name}/")]
                _still_has(ref, "domain", held, problems)
            case Kind.DOMAIN:
                held = edit.endpoints_by_domain.get(ref.path, [])
                _still_has(ref, "endpoint", held, problems)
            case Kind.NODE:
                _still_has(ref, "endpoint", edit.endpoints_by_node.get(ref.name, []), problems)
            case _:
                pass  # see check_external


def _still_has(ref: Ref, noun: str, paths: list[str], problems: Problems) -> None:
    if paths:
        message = f"still has {noun}{'s' if len(paths) > 1 else ''} {names(paths)}"
        problems.add(ref.text, message, conflict=True)


def names(paths: Iterable[str], limit: int = 8) -> str:
    """`a, b and c`, or the first few and how many more."""
    ordered = sorted(paths)
    if len(ordered) > limit:
        return f"{', '.join(ordered[:limit])} and {len(ordered) - limit} more"
    if len(ordered) == 1:
        return ordered[0]
    return f"{', '.join(ordered[:-1])} and {ordered[-1]}"


def check_tenants(edit: Edit, problems: Problems) -> None:
    """A written domain's tenant exists."""
    for path in edit.written_paths(Kind.DOMAIN):
        tenant = path.partition("/")[0]
        if tenant not in edit.tenants and not edit.is_broken(Kind.TENANT, tenant):
            problems.add(f"domain {path}: tenant", f"there is no tenant {tenant}")


def check_nodes(edit: Edit, problems: Problems) -> None:
    """VTEPs: usable, one family, one node each; no more nodes than the datapath can name."""
    written = edit.written_paths(Kind.NODE)
    if not written:
        return
    if len(edit.nodes) > MAX_NODES:
        message = f"a zone has at most {MAX_NODES} nodes; this makes {len(edit.nodes)}"
        problems.add(f"node {written[-1]}", message)
    ordered = _written_last(edit.nodes, written)
    holders: dict[Address, str] = {}
    for name in ordered:
        vtep = edit.nodes[name].vtep
        other = holders.setdefault(vtep, name)
        if other != name:
            problems.add(f"node {name}: spec.vtep", f"{vtep} is the VTEP of node {other}")
    family = edit.nodes[ordered[0]].vtep.version
    for name in written:
        spec = edit.nodes[name]
        if words := unusable(spec.vtep):
            problems.add(f"node {name}: spec.vtep", f"{spec.vtep} {words}")
        if spec.vtep.version != family:
            message = f"{spec.vtep} is IPv{spec.vtep.version}, but node {ordered[0]} has an "
            message += f"IPv{family} VTEP; a zone has one family"
            problems.add(f"node {name}: spec.vtep", message)
        if Role.EDGE not in spec.roles and (held := edit.endpoints_by_node.get(name)):
            message = f"has no edge role, but endpoints {names(held)}"
            problems.add(f"node {name}: spec.roles", message)


def _written_last(paths: Iterable[str], written: list[str]) -> list[str]:
    """So that what was there first keeps its place and what is new is told off."""
    late = set(written)
    return [path for path in paths if path not in late] + written


def check_mtus(edit: Edit, problems: Problems) -> None:
    """What a bridge promises fits through the underlay of every node."""
    domains = edit.written_paths(Kind.DOMAIN)
    nodes = edit.written_paths(Kind.NODE)
    if not edit.nodes:
        smallest = None
    else:
        smallest = min(edit.nodes, key=lambda name: overlay_mtu_bytes(edit.nodes[name]))
    for path in domains:
        for i, bridge in enumerate(edit.domains[path].bridges):
            if found := _mtu_problem(bridge, edit, smallest):
                problems.add(f"domain {path}: spec.bridges[{i}].{found[0]}", found[1])
    if smallest in nodes:
        for path in edit.domains.keys() - set(domains):
            for bridge in edit.domains[path].bridges:
                if found := _mtu_problem(bridge, edit, smallest):
                    message = f"bridge {bridge.name} of domain {path}: {found[1]}"
                    problems.add(f"node {smallest}: spec.underlay_mtu", message)


def _mtu_problem(bridge: Bridge, edit: Edit, smallest: str | None) -> tuple[str, str] | None:
    room = overlay_mtu_bytes(edit.nodes[smallest]) if smallest is not None else None
    if smallest is not None and room is not None and bridge.mtu is not None and bridge.mtu > room:
        node = edit.nodes[smallest]
        overhead = tunnel_overhead_bytes(node.vtep)
        return "mtu", (
            f"{bridge.mtu} does not fit: the underlay of node {smallest} carries "
            f"{node.underlay_mtu}, less {overhead} for the tunnel is {room}"
        )
    mtu = bridge.mtu if bridge.mtu is not None else room
    has_ipv6 = any(subnet.version == 6 for subnet in bridge.subnets)
    if has_ipv6 and mtu is not None and mtu < MIN_IPV6_MTU_BYTES:
        field = "mtu" if bridge.mtu is not None else "subnets"
        return field, f"IPv6 needs an MTU of {MIN_IPV6_MTU_BYTES} or more; this bridge has {mtu}"
    return None
