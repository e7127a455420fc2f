"""plum_rif, plum_host, plum_route, plum_hop."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from daemon.abi import Hop, HopKey, Host, HostKey, Rif, RifKey, Route, RouteKey, RouteKind
from daemon.compiler.wide import ZERO, mac_bytes, wide, wide_prefix
from tests.compiler.build import compiled, domain, endpoint

MAC = mac_bytes("02:72:00:00:00:32")
INTERFACES = [
    {"bridge": "blue", "addresses": ["10.0.1.1/24", "fd00:1::1/64"]},
    {"bridge": "red", "addresses": ["10.0.2.1/24"]},
]


def router(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"name": "r", "interfaces": INTERFACES, "routes": list(routes)}


def key(text: str) -> RouteKey:
    prefix = wide_prefix(ip_network(text))
    return RouteKey(32 + prefix.bits, 50, prefix.addr)


def host(text: str) -> HostKey:
    return HostKey(7, wide(ip_address(text)))


def routes_of(*routes: dict[str, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    rows = compiled(domain(routers=[router(*routes)]), endpoint(1)).rows
    return rows["plum_route"], rows["plum_hop"]


CONNECTED = {
    key("10.0.1.0/24"): Route(0, RouteKind.CONNECTED, 100, 0),
    key("fd00:1::/64"): Route(0, RouteKind.CONNECTED, 100, 0),
    key("10.0.2.0/24"): Route(0, RouteKind.CONNECTED, 101, 0),
}


def test_interfaces() -> None:
    rows = compiled(domain(routers=[router()]), endpoint(1)).rows["plum_rif"]
    assert rows == {
        RifKey(50, 100): Rif(
            0, 0, wide(ip_address("10.0.1.1")), wide(ip_address("fd00:1::1")), MAC
        ),
        RifKey(50, 101): Rif(0, 0, wide(ip_address("10.0.2.1")), ZERO, MAC),
    }


def test_hosts_are_endpoints_and_routers() -> None:
    rows = compiled(
        domain(routers=[router()]), endpoint(1), endpoint(2, on="n2", bridge="red")
    ).rows["plum_host"]
    assert rows == {
        host("10.0.1.1"): Host(0, 100, 0, 0, 50, MAC, 0),
        host("fd00:1::1"): Host(0, 100, 0, 0, 50, MAC, 0),
        host("10.0.2.1"): Host(0, 101, 0, 0, 50, MAC, 0),
        host("fe80::72:ff:fe00:32"): Host(0, 0, 0, 0, 50, MAC, 0),
        host("10.0.1.11"): Host(0, 100, 0, 201, 0, mac_bytes("02:65:00:00:00:01"), 0),
        host("10.0.2.12"): Host(0, 101, 2, 0, 0, mac_bytes("02:65:00:00:00:02"), 0),
    }


def test_a_pair_is_a_host_only_if_exact_and_claimed_once() -> None:
    pairs = [{"address": "10.0.1.100/32"}, {"address": "203.0.113.0/24"},
             {"address": "10.0.1.12/32"}]  # fmt: skip
    one, two = endpoint(1, allowed_pairs=pairs), endpoint(2)
    rows = compiled(domain(), one, two).rows["plum_host"]
    assert set(rows) == {host("10.0.1.11"), host("10.0.1.12"), host("10.0.1.100")}
    assert rows[host("10.0.1.12")] == Host(0, 100, 0, 202, 0, mac_bytes("02:65:00:00:00:02"), 0)
    shared = endpoint(3, allowed_pairs=[{"address": "10.0.1.100/32"}])
    assert host("10.0.1.100") not in compiled(domain(), one, two, shared).rows["plum_host"]


def test_the_own_address_of_an_absent_endpoint_is_not_given_to_a_pair() -> None:
    thief = endpoint(1, allowed_pairs=[{"address": "10.0.1.12/32"}])
    rows = compiled(domain(), thief, endpoint(2), absent=("e2",)).rows["plum_host"]
    assert set(rows) == {host("10.0.1.11")}


def test_connected_subnets_win_over_equal_static_routes() -> None:
    routes, hops = routes_of({"to": "10.0.1.0/24", "via": ["10.0.2.12"]})
    assert routes == CONNECTED
    assert hops == {}


def test_next_hops_share_a_group_whatever_their_order() -> None:
    first, hops = routes_of({"to": "0.0.0.0/0", "via": ["10.0.2.12", "10.0.1.11"]})
    second, _ = routes_of({"to": "0.0.0.0/0", "via": ["10.0.1.11", "10.0.2.12"]})
    assert first == second
    route = first[key("0.0.0.0/0")]
    assert (route.kind, route.hops) == (RouteKind.VIA, 2)
    assert hops == {
        HopKey(route.group, 0): Hop(wide(ip_address("10.0.1.11")), 100),
        HopKey(route.group, 1): Hop(wide(ip_address("10.0.2.12")), 101),
    }
    other, _ = routes_of({"to": "0.0.0.0/0", "via": ["10.0.1.11"]})
    assert other[key("0.0.0.0/0")].group != route.group


def test_unreachable_next_hops_and_blackholes() -> None:
    routes, hops = routes_of(
        {"to": "192.0.2.0/24", "via": ["172.16.0.1"]}, {"to": "198.51.100.0/24", "blackhole": True}
    )
    assert routes[key("192.0.2.0/24")].kind == RouteKind.BLACKHOLE
    assert routes[key("198.51.100.0/24")].kind == RouteKind.BLACKHOLE
    assert hops == {}


def test_an_ipv6_default_route_does_not_catch_ipv4() -> None:
    default6 = {"to": "::/0", "via": ["fd00:1::9"]}
    routes, _ = routes_of(default6)
    assert routes[key("0.0.0.0/0")] == Route(0, RouteKind.NONE, 0, 0)
    routes, _ = routes_of(default6, {"to": "0.0.0.0/0", "via": ["10.0.1.11"]})
    assert routes[key("0.0.0.0/0")].kind == RouteKind.VIA
