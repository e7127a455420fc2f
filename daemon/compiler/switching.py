"""Rows of bridges: who may speak, who owns a MAC, who gets a flooded frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from daemon.abi import (
    PLUM_MAX_FLOOD,
    Bridge,
    BridgeFlag,
    BridgeKey,
    Flood,
    FloodKey,
    MacKey,
    Port,
    Source,
    SourceKey,
)
from daemon.compiler.balancing import Balancer
from daemon.compiler.errors import CompileError
from daemon.compiler.result import Table
from daemon.compiler.routing import Interface
from daemon.compiler.seat import Seat
from daemon.compiler.wide import without_ipv4
from daemon.model.object import Domain

_OWNER_BITS = 96  # slot and mac, in front of the address in source_key


def bridge_rows(domain: Domain, mtus: Mapping[str, int]) -> Table:
    """Every bridge of the domain: also those only a router here leads to."""
    return {
        BridgeKey(domain.vnis[bridge.name]): Bridge(
            domain.id,
            mtus[bridge.name],
            BridgeFlag.FLOOD.value if bridge.flood else 0,
        )
        for bridge in domain.spec.bridges
        if bridge.name in domain.vnis
    }


def source_rows(seats: Iterable[Seat]) -> Table:
    """Of each local endpoint with a device: its MAC with its addresses and its
    link-local address, and every allowed pair with the pair's MAC or its own.

    A pair as wide as `::/0` allows no IPv4 address: it becomes several rows.
    """
    rows: Table = {}
    value = Source()
    for seat in seats:
        if not seat.ifindex:
            continue
        slot = seat.endpoint.slot
        for addr in (*seat.addresses, seat.link_local):
            rows[SourceKey(_OWNER_BITS + 128, slot, seat.mac, addr)] = value
        for pair in seat.pairs:
            for prefix in without_ipv4(pair.prefix):
                key = SourceKey(_OWNER_BITS + prefix.bits, slot, pair.mac, prefix.addr)
                rows[key] = value
    return rows


def mac_rows(
    interfaces: Iterable[Interface], balancers: Iterable[Balancer], seats: Sequence[Seat]
) -> Table:
    """Routers' MACs, then load balancers', then endpoints' own, then pairs' MACs that one endpoint uses.

    Where two claim one MAC the first of that order has it, and among endpoints
    the first by path; a pair's MAC that two endpoints use belongs to nobody.
    """
    rows: Table = {}
    for interface in interfaces:
        rows[MacKey(interface.vni, interface.mac)] = Port(0, 0, interface.router, 0)
    for balancer in balancers:
        rows.setdefault(MacKey(balancer.vni, balancer.mac), Port(0, 0, 0, balancer.number))
    own: set[MacKey] = set()
    ports: dict[tuple[int, int], Port] = {}  # one value for all endpoints of a remote node
    claims: dict[MacKey, Seat | None] = {}
    for seat in seats:
        key = MacKey(seat.vni, seat.mac)
        if key not in own:
            own.add(key)
            if seat.node or seat.ifindex:
                place = (seat.node, seat.ifindex)
                port = ports.get(place) or ports.setdefault(place, Port(*place, 0, 0))
                rows.setdefault(key, port)
        for pair in seat.pairs:
            if pair.mac != seat.mac:
                key = MacKey(seat.vni, pair.mac)
                claims[key] = seat if claims.get(key, seat) is seat else None
    for key, claimant in claims.items():
        if claimant is not None and claimant.reachable and key not in own:
            rows.setdefault(key, Port(claimant.node, claimant.ifindex, 0, 0))
    return rows


def flood_rows(
    path: str, domain: Domain, local: Iterable[Seat], remote: Iterable[tuple[int, int]]
) -> Table:
    """Replication lists: local endpoints by slot, then remote nodes by id.

    `remote`: VNI and node of bridges with endpoints elsewhere, each once.
    """
    flooding = {
        domain.vnis[b.name]: b.name
        for b in domain.spec.bridges
        if b.flood and b.name in domain.vnis
    }
    here: dict[int, list[tuple[int, int]]] = {vni: [] for vni in flooding}
    there: dict[int, list[int]] = {vni: [] for vni in flooding}
    for seat in local:
        if seat.vni in flooding and seat.ifindex:
            here[seat.vni].append((seat.endpoint.slot, seat.ifindex))
    for vni, node in remote:
        if vni in flooding:
            there[vni].append(node)
    rows: Table = {}
    for vni, name in flooding.items():
        members = [Flood(0, ifindex) for _, ifindex in sorted(here[vni])]
        members += [Flood(node, 0) for node in sorted(there[vni])]
        if len(members) > PLUM_MAX_FLOOD:
            raise CompileError(
                path,
                f"bridge {name} floods to {len(members)} members, more than {PLUM_MAX_FLOOD}",
                "set `flood: false` on the bridge or divide it",
            )
        for index, member in enumerate(members):
            rows[FloodKey(vni, index)] = member
    return rows
