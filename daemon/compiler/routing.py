"""Rows of routers: interfaces, routes, next hops, and who owns an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from daemon.abi import (
    Hop,
    HopKey,
    Host,
    HostKey,
    Rif,
    RifKey,
    Route,
    RouteKey,
    RouteKind,
)
from daemon.compiler.balancing import Balancer
from daemon.compiler.identity import content_id
from daemon.compiler.peers import Peers
from daemon.compiler.result import Table
from daemon.compiler.seat import Seat
from daemon.compiler.uplinks import Way, default_routes
from daemon.compiler.wide import IPV4, ZERO, Prefix, hides_ipv4, mac_bytes, wide, wide_prefix
from daemon.model.base import Address
from daemon.model.base import Interface as AddressWithNet
from daemon.model.mac import link_local, router_mac
from daemon.model.object import Domain

_NOBODY: frozenset[str] = frozenset()


class Interface(NamedTuple):
    """A router's interface on a bridge."""

    router: int
    name: str
    bridge: str
    vni: int
    mac: bytes
    addresses: tuple[AddressWithNet, ...]
    link_local: bytes


def interfaces(domain: Domain) -> list[Interface]:
    """In the order of the domain; of an unknown bridge there is none."""
    result = []
    for router in domain.spec.routers:
        number = domain.router_ids.get(router.name)
        if number is None:
            continue
        mac = router.mac or router_mac(number)
        for interface in router.interfaces:
            vni = domain.vnis.get(interface.bridge)
            if vni is not None:
                result.append(
                    Interface(
                        number,
                        router.name,
                        interface.bridge,
                        vni,
                        mac_bytes(mac),
                        interface.addresses,
                        link_local(mac).packed,
                    )
                )
    return result


def rif_rows(
    domain_interfaces: Sequence[Interface], sets: Mapping[tuple[str, str], tuple[int, int]]
) -> Table:
    """The first IPv4 and the first IPv6 address are the source of ICMP errors.

    `sets`: policy sets by router and bridge, towards the bridge and from it.
    """
    rows: Table = {}
    for interface in domain_interfaces:
        first = {4: ZERO, 6: ZERO}
        for address in reversed(interface.addresses):
            first[address.version] = wide(address.ip)
        ingress, egress = sets.get((interface.name, interface.bridge), (0, 0))
        rif = Rif(ingress, egress, first[4], first[6], interface.mac)
        rows.setdefault(RifKey(interface.router, interface.vni), rif)
    return rows


def host_rows(
    domain_id: int,
    domain_interfaces: Sequence[Interface],
    balancers: Sequence[Balancer],
    seats: Sequence[Seat],
    peers: Peers,
) -> Table:
    """Routers' addresses, then load balancers', then endpoints' own, then exact pairs one endpoint claims.

    Where two claim one address the first of that order has it, and among
    endpoints the first by path. The own address of an endpoint without a device
    is taken, though it has no row. A router's link-local address (the IPv6
    gateway guests learn) has one row with VNI 0: it holds on every bridge the
    router has an interface on. Endpoints' link-local addresses have none.
    """
    rows: Table = {}
    for interface in domain_interfaces:
        for address in interface.addresses:
            addr = wide(address.ip)
            rows.setdefault(
                HostKey(domain_id, addr),
                Host(
                    peers.of_host(addr, _NOBODY),
                    interface.vni,
                    0,
                    0,
                    interface.router,
                    interface.mac,
                    0,
                ),
            )
        addr = interface.link_local
        rows.setdefault(
            HostKey(domain_id, addr),
            Host(peers.of_host(addr, _NOBODY), 0, 0, 0, interface.router, interface.mac, 0),
        )
    for balancer in balancers:
        for addr in balancer.addresses:
            number = balancer.number
            host = Host(peers.of_host(addr, _NOBODY), balancer.vni, 0, 0, 0, balancer.mac, number)
            rows.setdefault(HostKey(domain_id, addr), host)
    own: set[bytes] = set()
    claims: dict[bytes, tuple[Seat, bytes] | None] = {}
    of_host = peers.of_host
    for seat in seats:
        for addr in seat.addresses:
            if addr in own:
                continue
            own.add(addr)
            if seat.node or seat.ifindex:
                rows.setdefault(
                    HostKey(domain_id, addr),
                    Host(
                        of_host(addr, seat.groups),
                        seat.vni,
                        seat.node,
                        seat.ifindex,
                        0,
                        seat.mac,
                        0,
                    ),
                )
        for pair in seat.pairs:
            if pair.prefix.bits == 128:
                mine = (seat, pair.mac)
                known = claims.setdefault(pair.prefix.addr, mine)
                if known is not None and known[0] is not seat:
                    claims[pair.prefix.addr] = None
    for addr, claim in claims.items():
        if claim is None or addr in own or not claim[0].reachable:
            continue
        seat, mac = claim
        rows.setdefault(
            HostKey(domain_id, addr),
            Host(of_host(addr, seat.groups), seat.vni, seat.node, seat.ifindex, 0, mac, 0),
        )
    return rows


def _route_key(router: int, prefix: Prefix) -> RouteKey:
    return RouteKey(32 + prefix.bits, router, prefix.addr)


def _reached_through(via: Address, own: Sequence[Interface]) -> int | None:
    """VNI of the interface whose longest subnet holds the next hop."""
    found: tuple[int, int] | None = None
    for interface in own:
        for address in interface.addresses:
            inside = address.version == via.version and via in address.network
            if inside and (found is None or address.network.prefixlen > found[0]):
                found = (address.network.prefixlen, interface.vni)
    return found[1] if found else None


def route_rows(
    domain: Domain, path: str, domain_interfaces: Sequence[Interface], ways: Sequence[Way] = ()
) -> tuple[Table, Table]:
    """plum_route and plum_hop.

    Per router: its connected subnets; its static routes except where a connected
    subnet has the very same prefix; the first of two equal prefixes. A next hop
    in no connected subnet is left out, and a route that has no next hop left is a
    blackhole. A router with an uplink has a default route there. `::/0` and the like would also catch IPv4 addresses, so a router
    with such a route and no 0.0.0.0/0 has a ROUTE_NONE row for ::ffff:0:0/96.
    """
    routes: Table = {}
    hops: Table = {}
    for router in domain.spec.routers:
        number = domain.router_ids.get(router.name)
        if number is None:
            continue
        own = [i for i in domain_interfaces if i.router == number]
        mine: dict[Prefix, Route] = {}
        for interface in own:
            for address in interface.addresses:
                prefix = wide_prefix(address.network)
                connected = Route(0, RouteKind.CONNECTED.value, interface.vni, 0)
                mine.setdefault(prefix, connected)
        for static in router.routes:
            reached = {(wide(via), _reached_through(via, own)) for via in static.via}
            vias = sorted((addr, vni) for addr, vni in reached if vni is not None)
            route = Route(0, RouteKind.BLACKHOLE.value, 0, 0)
            prefix = wide_prefix(static.to)
            if vias and not static.blackhole and prefix not in mine:
                parts = (addr + vni.to_bytes(4, "little") for addr, vni in vias)
                group = content_id("hops", path.encode(), *parts)
                for index, (addr, vni) in enumerate(vias):
                    hops[HopKey(group, index)] = Hop(addr, vni)
                route = Route(group, RouteKind.VIA.value, 0, len(vias))
            mine.setdefault(prefix, route)
        for way in ways:
            if router.uplink is not None and router.uplink.network == way.name:
                for prefix, route in default_routes(way):
                    mine.setdefault(prefix, route)
        if any(map(hides_ipv4, mine)) and IPV4 not in mine:
            mine[IPV4] = Route(0, RouteKind.NONE.value, 0, 0)
        for prefix, route in mine.items():
            routes[_route_key(number, prefix)] = route
    return routes, hops
