"""The zone that packet tests run in, seen from node n1.

domain shop (id 7)                               domain rival (id 8)
web  5001  10.0.1/24  2001:db8:1::/64            web 6001, subnets as shop's web
  a .11 (n1)  b .12 (n1)  p .15 (n1, pairs)        x .11 (n1)  y .12 (n1)
  c .13 (n2)  f .14 (n3)
app  5002  10.0.2/24  2001:db8:2::/64
  d .11 (n1)  e .12 (n2)  w .13 (n1, a pair 203.0.113.0/24)
dark 5003  10.0.3/24  2001:db8:3::/64  no flood, no DHCP, MTU 1280
  q .11 (n1)
link 5004  10.0.9/24  between the routers
far  5005  10.0.4/24  2001:db8:4::/64
  z .11 (n1)

router one (id 31): web, app, dark .1, link .1      router two (id 32): link .2, far .1
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.mac import balancer_mac, link_local, router_mac
from daemon.model.node import NodeSpec
from daemon.model.object import Domain, Endpoint, Node
from daemon.model.snapshot import Snapshot

WEB, APP, DARK, LINK, FAR, RIVAL = 5001, 5002, 5003, 5004, 5005, 6001
VNIS = {"web": WEB, "app": APP, "dark": DARK, "link": LINK, "far": FAR}
BRIDGE_NET = {"web": 1, "app": 2, "dark": 3, "far": 4, "link": 9}
ONE, TWO = 31, 32
FRONT = 61  # a load balancer, where a test has one
ONE_MAC, TWO_MAC, FRONT_MAC = router_mac(ONE), router_mac(TWO), balancer_mac(FRONT)
VTEPS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
VTEPS6 = ("2001:db8:ffff::1", "2001:db8:ffff::2", "2001:db8:ffff::3")
VRRP_MAC = "00:00:5e:00:01:07"

#: name: (number, bridge, node, last part of the address)
PLACES = {
    "a": (1, "web", "n1", 11),
    "b": (2, "web", "n1", 12),
    "c": (3, "web", "n2", 13),
    "f": (4, "web", "n3", 14),
    "p": (5, "web", "n1", 15),
    "d": (6, "app", "n1", 11),
    "e": (7, "app", "n2", 12),
    "w": (8, "app", "n1", 13),
    "q": (9, "dark", "n1", 11),
    "z": (10, "far", "n1", 11),
}
RIVALS = {"x": (11, "web", "n1", 11), "y": (12, "web", "n1", 12)}
LOCAL = [n for n, place in {**PLACES, **RIVALS}.items() if place[2] == "n1"]
PAIRS = {
    "p": [
        {"address": "10.0.1.100/32"},
        {"address": "10.77.0.0/16"},
        {"address": "10.0.1.101/32", "mac": VRRP_MAC},
        {"address": "2001:db8:1::100/128"},
        {"address": "2001:db8:77::/48"},
    ],
    "w": [{"address": "203.0.113.0/24"}, {"address": "2001:db8:cafe::/48"}],
}
LABELS = {"a": {"role": "client"}, "b": {"role": "server"}, "c": {"role": "client"}}

ONE_ROUTES = [
    {"to": "10.0.4.0/24", "via": ["10.0.9.2"]},
    {"to": "2001:db8:4::/64", "via": ["2001:db8:9::2"]},
    {"to": "198.51.100.0/24", "blackhole": True},
    {"to": "2001:db8:dead::/48", "blackhole": True},
    {"to": "203.0.113.0/24", "via": ["10.0.2.13"]},
    {"to": "2001:db8:cafe::/48", "via": ["2001:db8:2::13"]},
    {"to": "192.168.0.0/16", "via": ["10.0.2.11", "10.0.2.12", "10.0.2.13"]},
    {"to": "172.16.0.0/12", "via": ["10.0.9.2"]},
    {"to": "2001:db8:100::/48", "via": ["2001:db8:9::2"]},
    {"to": "100.64.0.0/10", "via": ["10.0.2.99"]},
]
TWO_ROUTES = [
    {"to": "10.0.0.0/16", "via": ["10.0.9.1"]},
    {"to": "2001:db8::/32", "via": ["2001:db8:9::1"]},
    {"to": "172.16.0.0/12", "via": ["10.0.9.1"]},
]


def mac(name: str) -> str:
    return f"02:65:00:00:00:{ {**PLACES, **RIVALS}[name][0]:02x}"


def ip4(name: str) -> str:
    _, bridge, _, last = {**PLACES, **RIVALS}[name]
    return f"10.0.{BRIDGE_NET[bridge]}.{last}"


def ip6(name: str) -> str:
    _, bridge, _, last = {**PLACES, **RIVALS}[name]
    return f"2001:db8:{BRIDGE_NET[bridge]}::{last}"


def ip(name: str, family: int) -> str:
    return ip4(name) if family == 4 else ip6(name)


def lla(name: str) -> str:
    return str(link_local(mac(name)))


def gateway(bridge: str, family: int = 4, host: int = 1) -> str:
    net = BRIDGE_NET[bridge]
    return f"10.0.{net}.{host}" if family == 4 else f"2001:db8:{net}::{host}"


def _bridge(name: str, **more: Any) -> dict[str, Any]:
    net = BRIDGE_NET[name]
    return {"name": name, "subnets": [f"10.0.{net}.0/24", f"2001:db8:{net}::/64"], **more}


def _interface(bridge: str, host: int = 1) -> dict[str, Any]:
    addresses = [f"{gateway(bridge, 4, host)}/24", f"{gateway(bridge, 6, host)}/64"]
    return {"bridge": bridge, "addresses": addresses}


def shop(**changes: Any) -> Domain:
    """The domain, its spec's fields changed. Every connection is allowed by default."""
    spec: dict[str, Any] = {
        "default": {"ingress": "allow", "egress": "allow"},
        "bridges": [
            _bridge("web"),
            _bridge("app"),
            _bridge("dark", flood=False, dhcp={"enabled": False}, mtu=1280),
            _bridge("link"),
            _bridge("far"),
        ],
        "routers": [
            {
                "name": "one",
                "interfaces": [
                    *(_interface(b) for b in ("web", "app", "dark")),
                    _interface("link"),
                ],
                "routes": ONE_ROUTES,
            },
            {
                "name": "two",
                "interfaces": [_interface("link", 2), _interface("far")],
                "routes": TWO_ROUTES,
            },
        ],
        "groups": [
            {"name": "clients", "labels": {"role": "client"}},
            {"name": "servers", "labels": {"role": "server"}},
        ],
        **changes,
    }
    return Domain(
        tenant="acme",
        name="shop",
        spec=DomainSpec.model_validate(spec),
        id=7,
        vnis=VNIS,
        router_ids={"one": ONE, "two": TWO},
        balancer_ids={b["name"]: FRONT for b in changes.get("load_balancers", ())},
    )


def rival() -> Domain:
    spec = {
        "default": {"ingress": "allow", "egress": "allow"},
        "bridges": [_bridge("web")],
    }
    return Domain(
        tenant="evil",
        name="rival",
        spec=DomainSpec.model_validate(spec),
        id=8,
        vnis={"web": RIVAL},
        router_ids={},
    )


def endpoint(name: str, **spec: Any) -> Endpoint:
    number, bridge, node, _ = {**PLACES, **RIVALS}[name]
    text = {
        "domain": "rival" if name in RIVALS else "shop",
        "bridge": bridge,
        "node": node,
        "allowed_pairs": PAIRS.get(name, []),
        "labels": LABELS.get(name, {}),
        **spec,
    }
    return Endpoint(
        tenant="evil" if name in RIVALS else "acme",
        name=name,
        spec=EndpointSpec.model_validate(text),
        id=1000 + number,
        slot=number,
        mac=mac(name),
        addresses=(ip_address(ip4(name)), ip_address(ip6(name))),
    )


def path(name: str) -> str:
    return f"evil/rival/{name}" if name in RIVALS else f"acme/shop/{name}"


def zone(
    domain: Domain | None = None,
    vteps: Sequence[str] = VTEPS,
    changed: dict[str, dict[str, Any]] | None = None,
    without: Sequence[str] = (),
) -> Snapshot:
    """`changed`: fields of endpoints' specs by name; `without`: endpoints left out."""
    nodes = {
        f"n{i}": Node(name=f"n{i}", id=i, spec=NodeSpec(vtep=ip_address(vtep), underlay_mtu=1600))
        for i, vtep in enumerate(vteps, 1)
    }
    endpoints = {
        path(name): endpoint(name, **(changed or {}).get(name, {}))
        for name in (*PLACES, *RIVALS)
        if name not in without
    }
    domains = {"acme/shop": domain or shop(), "evil/rival": rival()}
    return Snapshot(revision=1, nodes=nodes, domains=domains, endpoints=endpoints)
