"""Every check: bad input is named at its exact place, and nothing is written."""

from __future__ import annotations

import pytest

from daemon.model.manifest import parse_manifests
from daemon.model.object import Kind, Ref
from daemon.store.interface import Store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import CONFLICT, INVALID, NOT_FOUND, ZoneError
from daemon.zone.keys import ROOT
from daemon.zone.plan import Action

BASE = """
kind: node
name: n1
spec: {vtep: 192.0.2.1}
---
kind: node
name: n2
spec: {vtep: 192.0.2.2}
---
kind: node
name: gw1
spec: {vtep: 192.0.2.9, roles: [gateway]}
---
kind: tenant
name: acme
---
kind: domain
name: shop
tenant: acme
spec:
  bridges:
    - {name: web, subnets: [10.0.1.0/24, "fd00:1::/64"]}
    - {name: db, subnets: [10.0.2.0/24]}
  routers:
    - name: gw
      interfaces:
        - {bridge: web, addresses: [10.0.1.1/24, "fd00:1::1/64"]}
        - {bridge: db, addresses: [10.0.2.1/24]}
  groups: [{name: web, labels: {tier: web}}]
---
kind: endpoint
name: a
tenant: acme
spec: {domain: shop, bridge: web, node: n1, addresses: [10.0.1.5], mac: "02:00:00:00:00:0a"}
---
kind: endpoint
name: auto
tenant: acme
spec: {domain: shop, bridge: web, node: n1}
---
kind: endpoint
name: tap
tenant: acme
spec: {domain: shop, bridge: db, node: n1, attach: {kind: tap, device: tap0}}
"""


def domain(spec: str) -> str:
    """A new domain `acme/new` with bridges b (10.1.0.0/24) and c (10.2.0.0/24) unless given."""
    if "bridges:" not in spec:
        spec = f"bridges: [{{name: b, subnets: [10.1.0.0/24]}}, {{name: c}}], {spec}"
    return f"{{kind: domain, name: new, tenant: acme, spec: {{{spec}}}}}"


def router(spec: str) -> str:
    interfaces = "interfaces: [{bridge: b, addresses: [10.1.0.1/24]}]"
    return domain(f"routers: [{{name: r, {interfaces}, {spec}}}]")


def rule(spec: str) -> str:
    policy = f"policies: [{{name: p, ingress: [{{name: r, {spec}}}]}}]"
    return domain(f"groups: [{{name: g, labels: {{a: b}}}}], {policy}")


def balancer(spec: str) -> str:
    """On bridge b at 10.1.0.100, TCP 80, group g, unless given; router r has 10.1.0.1."""
    for key, value in (
        ("bridge", "b"),
        ("addresses", "[10.1.0.100]"),
        ("listeners", "[{port: 80}]"),
    ):
        if f"{key}:" not in spec:
            spec = f"{key}: {value}, {spec}"
    return domain(
        "routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.1/24]}]}], "
        f"groups: [{{name: g, labels: {{a: b}}}}], load_balancers: [{{name: l, {spec}}}]"
    )


def endpoint(spec: str, name: str = "new") -> str:
    for key, value in (("domain", "shop"), ("bridge", "web"), ("node", "n1")):
        if f"{key}:" not in spec:
            spec = f"{key}: {value}, {spec}"
    return f"{{kind: endpoint, name: {name}, tenant: acme, spec: {{{spec}}}}}"


def node(spec: str, name: str = "n3") -> str:
    return f"{{kind: node, name: {name}, spec: {{{spec}}}}}"


D, E = "domain acme/new", "endpoint acme/shop/new"
R = f"{D}: spec.routers[0]"
L = f"{D}: spec.load_balancers[0]"
RULE = f"{D}: spec.policies[0].ingress[0]"

# Manifest(s), and where and what: the message must contain the text.
CASES: list[tuple[str, list[tuple[str, str]]]] = [
    # references
    (
        "{kind: domain, name: new, tenant: nobody}",
        [("domain nobody/new: tenant", "no tenant nobody")],
    ),
    (
        endpoint("domain: gone"),
        [("endpoint acme/gone/new: spec.domain", "no domain acme/gone")],
    ),
    (endpoint("bridge: gone"), [(f"{E}: spec.bridge", "no bridge gone")]),
    (endpoint("node: gone"), [(f"{E}: spec.node", "no node gone")]),
    (endpoint("node: gw1"), [(f"{E}: spec.node", "no edge role")]),
    (rule("peers: [{group: x}]"), [(f"{RULE}.peers[0].group", "no group x")]),
    (domain("bridges: [{name: b}], dns: {}"), [(f"{D}: spec.dns", "no gateway")]),
    (
        endpoint("qos: {dscp: gold, egress: {rate_kbit: 1, burst_kbyte: 0}}"),
        [
            (f"{E}: spec.qos.dscp", "no code point is called 'gold'"),
            (f"{E}: spec.qos.egress.burst_kbyte", "2"),
            (f"{E}: spec.qos.egress.rate_kbit", "10"),
        ],
    ),
    (
        domain("policies: [{name: p, applies_to: x}]"),
        [(f"{D}: spec.policies[0].applies_to", "no group x")],
    ),
    (
        domain("routers: [{name: r, interfaces: [{bridge: x, addresses: [10.1.0.1/24]}]}]"),
        [(f"{R}.interfaces[0].bridge", "no bridge x")],
    ),
    # load balancers
    (balancer("bridge: x, group: g"), [(f"{L}.bridge", "no bridge x")]),
    (balancer("group: x"), [(f"{L}.group", "no group x")]),
    (balancer("backends: []"), [(f"{L}.backends", "name a group or at least one backend")]),
    (
        balancer("backends: [{endpoint: gone}]"),
        [(f"{L}.backends[0].endpoint", "no endpoint acme/new/gone")],
    ),
    (
        balancer("addresses: [10.2.0.9, 10.1.0.1, 10.1.0.255, 10.1.0.7, 10.1.0.7], group: g"),
        [
            (f"{L}.addresses[0]", "10.2.0.9 is in no subnet of bridge b"),
            (f"{L}.addresses[1]", "10.1.0.1 is the address of router r"),
            (f"{L}.addresses[2]", "broadcast"),
            (f"{L}.addresses[4]", "10.1.0.7 is the address of load balancer l"),
        ],
    ),
    (
        balancer("group: g, health: {path: /x, send: y, interval_s: 1, timeout_s: 2}"),
        [
            (f"{L}.health.path", "of http and https checks, not of tcp"),
            (f"{L}.health.send", "of udp checks, not of tcp"),
            (f"{L}.health.timeout_s", "2 s is longer than interval_s, 1 s"),
        ],
    ),
    (
        balancer("group: g, health: {kind: udp}"),
        [
            (f"{L}.health.send", "sends something that the backend answers"),
            (f"{L}.health.port", "no udp listener to take it from"),
        ],
    ),
    (
        balancer("group: g, health: {kind: http, status: 700}"),
        [(f"{L}.health.status", "700 is no HTTP status")],
    ),
    (
        balancer("group: g, listeners: [{port: 80}, {protocol: tcp, port: 80, to_port: 1}]"),
        [(f"{L}.listeners[1]", "another listener on tcp port 80")],
    ),
    (
        balancer("group: g")
        + "\n---\n"
        + "{kind: endpoint, name: e, tenant: acme, spec: "
        + "{domain: new, bridge: b, node: n1, addresses: [10.1.0.100]}}",
        [("endpoint acme/new/e: spec.addresses[0]", "the address of load balancer l")],
    ),
    # duplicate names
    (
        domain("bridges: [{name: b}, {name: b}]"),
        [(f"{D}: spec.bridges[1].name", "another b")],
    ),
    (
        domain("routers: [{name: r}, {name: r}]"),
        [(f"{D}: spec.routers[1].name", "another r")],
    ),
    (
        domain("groups: [{name: g, labels: {}}, {name: g, labels: {}}]"),
        [(f"{D}: spec.groups[1].name", "another g")],
    ),
    (
        domain("policies: [{name: p}, {name: p}]"),
        [(f"{D}: spec.policies[1].name", "another p")],
    ),
    (
        domain("policies: [{name: p, egress: [{name: r}, {name: r}], ingress: [{name: r}]}]"),
        [(f"{D}: spec.policies[0].egress[1].name", "another r")],
    ),
    # subnets
    (
        domain("bridges: [{name: b, subnets: [10.1.0.0/16]}, {name: c, subnets: [10.1.9.0/24]}]"),
        [(f"{D}: spec.bridges[1].subnets[0]", "overlaps 10.1.0.0/16 of bridge b")],
    ),
    (
        domain("bridges: [{name: b, subnets: ['fd00::/64', 'fd00::/80']}]"),
        [(f"{D}: spec.bridges[0].subnets[1]", "overlaps fd00::/64 of bridge b")],
    ),
    (
        domain("bridges: [{name: b, subnets: [10.0.0.1/24]}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "host bits set; the network is 10.0.0.0/24")],
    ),
    (
        domain("bridges: [{name: b, subnets: [224.0.0.0/24]}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "multicast")],
    ),
    (
        domain("bridges: [{name: b, subnets: [127.0.0.0/24]}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "loopback")],
    ),
    (
        domain("bridges: [{name: b, subnets: [0.0.0.0/0]}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "contains")],
    ),
    (
        domain("bridges: [{name: b, subnets: ['::ffff:10.0.0.0/104']}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "IPv6 clothes")],
    ),
    (
        domain("bridges: [{name: b, subnets: ['fe80::/64']}]"),
        [(f"{D}: spec.bridges[0].subnets[0]", "link-local")],
    ),
    # DHCP
    (
        domain("bridges: [{name: b, dhcp: {dns: [224.0.0.1], search: ['a b']}}]"),
        [
            (f"{D}: spec.bridges[0].dhcp.dns[0]", "multicast"),
            (f"{D}: spec.bridges[0].dhcp.search[0]", "no DNS name"),
        ],
    ),
    (
        domain(
            "bridges: [{name: b, subnets: [10.1.0.0/24], dhcp: {routes: ["
            "{to: 'fd00::/64', via: 10.1.0.9}, {to: 10.9.0.0/16, via: 10.8.0.1}]}}]"
        ),
        [
            (f"{D}: spec.bridges[0].dhcp.routes[0].via", "is IPv4, but the route is to IPv6"),
            (f"{D}: spec.bridges[0].dhcp.routes[1].via", "no subnet of bridge b"),
        ],
    ),
    # router interfaces
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: [10.9.0.1/24]}]}]"),
        [(f"{R}.interfaces[0].addresses[0]", "in no subnet of bridge b")],
    ),
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.1/25]}]}]"),
        [(f"{R}.interfaces[0].addresses[0]", "write 10.1.0.1/24")],
    ),
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.0/24]}]}]"),
        [(f"{R}.interfaces[0].addresses[0]", "network address of 10.1.0.0/24")],
    ),
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.255/24]}]}]"),
        [(f"{R}.interfaces[0].addresses[0]", "broadcast address of 10.1.0.0/24")],
    ),
    (
        domain(
            "routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.1/24]}]},"
            "{name: s, interfaces: [{bridge: b, addresses: [10.1.0.1/24]}]}]"
        ),
        [(f"{D}: spec.routers[1].interfaces[0].addresses[0]", "address of router r on b already")],
    ),
    (
        domain(
            "routers: [{name: r, interfaces: [{bridge: b, addresses: [10.1.0.1/24]},"
            "{bridge: b, addresses: [10.1.0.2/24]}]}]"
        ),
        [(f"{R}.interfaces[1].bridge", "has an interface on b already")],
    ),
    (
        domain(
            "routers: [{name: r, mac: '02:00:00:00:00:01', interfaces: ["
            "{bridge: b, addresses: [10.1.0.1/24]}]}, {name: s, mac: '02:00:00:00:00:01',"
            "interfaces: [{bridge: b, addresses: [10.1.0.2/24]}]}]"
        ),
        [(f"{D}: spec.routers[1].mac", "MAC of router r on bridge b")],
    ),
    # routes
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.8.0.1]}]"),
        [(f"{R}.routes[0].via[0]", "on no bridge this router is connected to")],
    ),
    (
        router("routes: [{to: 'fd00::/64', via: [10.1.0.9]}]"),
        [(f"{R}.routes[0].via[0]", "is IPv4, but the route is to IPv6 fd00::/64")],
    ),
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.1.0.9], blackhole: true}]"),
        [(f"{R}.routes[0].via", "a blackhole route has no next hop")],
    ),
    (router("routes: [{to: 10.9.0.0/16}]"), [(f"{R}.routes[0].via", "name a next hop")]),
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.1.0.1]}]"),
        [(f"{R}.routes[0].via[0]", "own address")],
    ),
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.1.0.9, 10.1.0.9]}]"),
        [(f"{R}.routes[0].via[1]", "listed twice")],
    ),
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.1.0.255]}]"),
        [(f"{R}.routes[0].via[0]", "broadcast address")],
    ),
    (
        router("routes: [{to: 10.9.0.0/16, via: [10.1.0.9]}, {to: 10.9.0.0/16, via: [10.1.0.8]}]"),
        [(f"{R}.routes[1].to", "another route to 10.9.0.0/16")],
    ),
    (
        router("routes: [{to: 10.1.0.0/24, via: [10.1.0.9]}]"),
        [(f"{R}.routes[0].to", "connected to this router")],
    ),
    # rules
    (rule("ports: [80]"), [(f"{RULE}.ports", "tcp, udp or sctp")]),
    (rule("protocol: icmp, ports: [80]"), [(f"{RULE}.ports", "tcp, udp or sctp")]),
    (rule("protocol: tcp, icmp_type: 8"), [(f"{RULE}.icmp_type", "icmp or icmp6")]),
    (rule("protocol: icmp, icmp_code: 8"), [(f"{RULE}.icmp_code", "needs an icmp_type")]),
    (rule("protocol: tcp, ports: [90-80]"), [(f"{RULE}.ports[0]", "ends before it begins")]),
    (rule("log: {sample: 12}"), [(f"{RULE}.log.sample", "write 8 or 16")]),
    (
        rule("active: [{zone: Mars, days: [mon, mon]}], ports: [1]"),
        [
            (f"{RULE}.active[0].zone", "no time zone"),
            (f"{RULE}.active[0].days[1]", "mon is listed twice"),
            (f"{RULE}.ports", "tcp, udp or sctp"),
        ],
    ),
    (rule('active: [{hours: "8-18"}]'), [(f"{RULE}.active[0].hours", 'such as "08:00-18:00"')]),
    (rule('active: [{hours: "08:00-08:00"}]'), [(f"{RULE}.active[0].hours", "00:00-24:00")]),
    (rule("active: [{days: [noday]}]"), [(f"{RULE}.active[0].days[0]", "mon")]),
    (rule("peers: [{}]"), [(f"{RULE}.peers[0]", "either a group or a cidr")]),
    (
        rule("peers: [{group: g, cidr: 10.0.0.0/8}]"),
        [(f"{RULE}.peers[0]", "either a group or a cidr")],
    ),
    (rule("peers: [{cidr: 10.0.0.1/8}]"), [(f"{RULE}.peers[0].cidr", "host bits set")]),
    (
        rule("peers: [{cidr: '::ffff:1.2.3.4/128'}]"),
        [(f"{RULE}.peers[0].cidr", "IPv6 clothes")],
    ),
    # MTU
    (
        domain("bridges: [{name: b, mtu: 1451}]"),
        [(f"{D}: spec.bridges[0].mtu", "1451 does not fit")],
    ),
    (
        domain("bridges: [{name: b, mtu: 1279, subnets: ['fd00::/64']}]"),
        [(f"{D}: spec.bridges[0].mtu", "IPv6 needs an MTU of 1280")],
    ),
    (
        node("vtep: 192.0.2.3, underlay_mtu: 1300"),
        [("node n3: spec.underlay_mtu", "bridge web of domain acme/shop: IPv6 needs")],
    ),
    # nodes
    (node("vtep: 192.0.2.1"), [("node n3: spec.vtep", "VTEP of node n1")]),
    (node("vtep: '2001:db8::1'"), [("node n3: spec.vtep", "a zone has one family")]),
    (node("vtep: 224.0.0.1"), [("node n3: spec.vtep", "multicast")]),
    (node("vtep: 127.0.0.1"), [("node n3: spec.vtep", "loopback")]),
    (node("vtep: 0.0.0.0"), [("node n3: spec.vtep", "this network")]),
    (
        node("vtep: 192.0.2.1, roles: [gateway]", "n1"),
        [("node n1: spec.roles", "no edge role, but endpoints acme/shop/a")],
    ),
    # endpoint addresses
    (endpoint("addresses: [10.0.9.1]"), [(f"{E}: spec.addresses[0]", "no subnet of bridge web")]),
    (endpoint("addresses: [10.0.2.9]"), [(f"{E}: spec.addresses[0]", "no subnet of bridge web")]),
    (endpoint("addresses: [10.0.1.1]"), [(f"{E}: spec.addresses[0]", "address of router gw")]),
    (endpoint("addresses: [10.0.1.0]"), [(f"{E}: spec.addresses[0]", "network address")]),
    (endpoint("addresses: [10.0.1.255]"), [(f"{E}: spec.addresses[0]", "broadcast address")]),
    (endpoint("addresses: ['fd00:1::']"), [(f"{E}: spec.addresses[0]", "network address")]),
    (endpoint("addresses: ['fe80::1']"), [(f"{E}: spec.addresses[0]", "link-local")]),
    (endpoint("addresses: ['fd00:1::9%eth0']"), [(f"{E}: spec.addresses[0]", "zone index")]),
    (endpoint("addresses: ['::ffff:10.0.1.9']"), [(f"{E}: spec.addresses[0]", "IPv6 clothes")]),
    (endpoint("addresses: [255.255.255.255]"), [(f"{E}: spec.addresses[0]", "reserved")]),
    (endpoint("addresses: ['::']"), [(f"{E}: spec.addresses[0]", "unspecified")]),
    (
        endpoint("addresses: [10.0.1.5]"),
        [(f"{E}: spec.addresses[0]", "address of endpoint acme/shop/a")],
    ),
    (
        endpoint("addresses: [10.0.1.2]"),
        [(f"{E}: spec.addresses[0]", "address of endpoint acme/shop/auto")],
    ),
    (endpoint("addresses: [10.0.1.9, 10.0.1.9]"), [(f"{E}: spec.addresses[1]", "listed twice")]),
    (
        f"{endpoint('addresses: [10.0.1.9]')}\n---\n{endpoint('addresses: [10.0.1.9]', 'new2')}",
        [("endpoint acme/shop/new2: spec.addresses[0]", "address of endpoint acme/shop/new")],
    ),
    (
        endpoint("allowed_pairs: [{address: 10.0.1.1}]"),
        [(f"{E}: spec.allowed_pairs[0].address", "address of router gw")],
    ),
    (
        endpoint("allowed_pairs: [{address: 224.0.0.0/4}]"),
        [(f"{E}: spec.allowed_pairs[0].address", "multicast")],
    ),
    # MACs
    (
        endpoint("mac: '02:00:00:00:00:0A'"),
        [(f"{E}: spec.mac", "MAC of endpoint acme/shop/a on bridge web")],
    ),
    (
        endpoint("mac: '02:65:00:00:00:02'"),
        [(f"{E}: spec.mac", "MAC of endpoint acme/shop/auto on bridge web")],
    ),
    (
        endpoint("mac: '02:72:00:00:00:01'"),
        [(f"{E}: spec.mac", "MAC of router gw on bridge web")],
    ),
    # attachment
    (endpoint("attach: {kind: tap}"), [(f"{E}: spec.attach.device", "is missing")]),
    (endpoint("attach: {kind: veth}"), [(f"{E}: spec.attach.device", "is missing")]),
    (
        endpoint("attach: {kind: veth, device: v0, namespace: x}"),
        [(f"{E}: spec.attach.namespace", "leave it out")],
    ),
    (
        endpoint("attach: {kind: veth, device: tap0}"),
        [(f"{E}: spec.attach.device", "tap0 of node n1 belongs to endpoint acme/shop/tap")],
    ),
    (
        endpoint("attach: {namespace: plum-acme-shop-a}"),
        [(f"{E}: spec.attach.device", "eth0 of namespace plum-acme-shop-a belongs to")],
    ),
    (endpoint("attach: {device: lo}"), [(f"{E}: spec.attach.device", "loopback")]),
    # a change of a domain against the endpoints it has
    (
        "{kind: domain, name: shop, tenant: acme, spec: {bridges: ["
        "{name: web, subnets: [10.0.1.0/24]}]}}",
        [("domain acme/shop: spec.bridges", "still has endpoints acme/shop/tap")],
    ),
    (
        "{kind: domain, name: shop, tenant: acme, spec: {bridges: ["
        "{name: web, subnets: [10.0.7.0/24]}, {name: db}]}}",
        [("endpoint acme/shop/a: spec.addresses[0]", "no subnet of bridge web")],
    ),
    (
        "{kind: domain, name: shop, tenant: acme, spec: {bridges: ["
        "{name: web, subnets: [10.0.1.0/24]}, {name: db}], routers: [{name: gw, interfaces: ["
        "{bridge: web, addresses: [10.0.1.2/24]}]}]}}",
        [
            (
                "domain acme/shop: spec.routers[0].interfaces[0].addresses[0]",
                "10.0.1.2 is the address of endpoint acme/shop/auto",
            )
        ],
    ),
    # several documents, all at once; a broken domain accuses nobody else
    (
        f"{endpoint('domain: broken')}\n---\n{node('vtep: 192.0.2.1')}\n---\n"
        "{kind: domain, name: broken, tenant: acme, spec: {bridge: []}}",
        [
            ("domain acme/broken: spec.bridge", "did you mean"),
            ("node n3: spec.vtep", "VTEP of node n1"),
        ],
    ),
    (
        f"{node('vtep: 192.0.2.3, role: []')}\n---\n{endpoint('node: n3')}",
        [("node n3: spec.role", "did you mean role")],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0][:80] for case in CASES])
@pytest.mark.asyncio
async def test_bad_input_is_named_at_its_place_and_nothing_is_written(
    store: Store, text: str, expected: list[tuple[str, str]]
) -> None:
    await apply(store, parse_manifests(BASE), actor="test")
    before = await store.list(ROOT)

    with pytest.raises(ZoneError) as caught:
        await apply(store, parse_manifests(text), actor="test")

    found = caught.value.problems
    assert [problem.path for problem in found] == [path for path, _ in expected]
    for problem, (_, words) in zip(found, expected, strict=True):
        assert words in problem.message
    assert caught.value.code in (INVALID, CONFLICT)
    assert await store.list(ROOT) == before


GOOD = [
    rule('active: [{hours: "22:00-06:00", days: [sat], zone: Asia/Kolkata}], log: {sample: 16}'),
    rule('active: [{hours: "00:00-24:00"}, {hours: "12:00-00:00"}], log: true'),
    "{kind: AdminPolicy, name: p, spec: {applies_to: {tenants: [later]}, max_connections: 16}}",
    endpoint("addresses: [10.0.1.9, 10.0.1.10, 'fd00:1::9']"),
    endpoint("mac: '02:00:00:00:00:0a', bridge: db"),  # MACs are unique by bridge
    endpoint("allowed_pairs: [{address: 0.0.0.0/0}]"),
    endpoint("attach: {device: eth1, namespace: plum-acme-shop-a}"),
    endpoint("attach: {kind: tap, device: tap0}, node: n2"),
    domain("bridges: [{name: b, subnets: [10.0.0.0/31]}, {name: c, mtu: 1450}]"),
    domain(
        "bridges: [{name: b, subnets: [10.0.0.0/31]}], routers: [{name: r, "
        "interfaces: [{bridge: b, addresses: [10.0.0.0/31]}]}]"
    ),
    rule("peers: [], protocol: tcp, ports: [0, 65535, 1-2]"),
    rule("protocol: 47"),
    router(
        "routes: [{to: 10.9.0.0/16, via: [10.1.0.8, 10.1.0.9]}, {to: 0.0.0.0/0, blackhole: true}]"
    ),
]


@pytest.mark.parametrize("text", GOOD)
@pytest.mark.asyncio
async def test_good_input_is_applied(store: Store, text: str) -> None:
    await apply(store, parse_manifests(BASE), actor="test")
    result = await apply(store, parse_manifests(text), actor="test")
    assert [change.action for change in result.changes] == [Action.CREATED]


@pytest.mark.parametrize(
    ("refs", "path", "words"),
    [
        (["tenant acme"], "tenant acme", "domain acme/shop"),
        (["domain acme/shop"], "domain acme/shop", "acme/shop/a, acme/shop/auto and acme/shop/tap"),
        (["node n1"], "node n1", "endpoints acme/shop/a, acme/shop/auto and acme/shop/tap"),
        (
            ["domain acme/shop", "endpoint acme/shop/a", "endpoint acme/shop/tap"],
            "domain acme/shop",
            "still has endpoint acme/shop/auto",
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_is_still_referred_to_is_not_deleted(
    store: Store, refs: list[str], path: str, words: str
) -> None:
    await apply(store, parse_manifests(BASE), actor="test")
    before = await store.list(ROOT)
    with pytest.raises(ZoneError) as caught:
        await delete(store, [parse_ref(ref) for ref in refs], actor="test")
    (problem,) = caught.value.problems
    assert (problem.path, caught.value.code) == (path, CONFLICT)
    assert words in problem.message
    assert await store.list(ROOT) == before


@pytest.mark.asyncio
async def test_delete_of_what_does_not_exist_names_it(store: Store) -> None:
    await apply(store, parse_manifests(BASE), actor="test")
    with pytest.raises(ZoneError) as caught:
        await delete(store, [parse_ref("endpoint acme/shop/a"), parse_ref("node n7")], actor="test")
    assert caught.value.code == NOT_FOUND
    assert [problem.path for problem in caught.value.problems] == ["node n7"]


@pytest.mark.asyncio
async def test_a_whole_tenant_is_deleted_together(store: Store) -> None:
    await apply(store, parse_manifests(BASE), actor="test")
    names = ("tenant acme", "domain acme/shop", *(f"endpoint acme/shop/{e}" for e in EVERY))
    result = await delete(store, [parse_ref(name) for name in names], actor="test")
    assert {change.action for change in result.changes} == {Action.DELETED}
    assert not (await store.list(f"{ROOT}endpoint/")).items


@pytest.mark.asyncio
async def test_a_zone_has_4095_nodes(store: Store) -> None:
    def nodes(first: int, last: int) -> str:
        return "\n---\n".join(
            f"{{kind: node, name: n{i}, spec: {{vtep: 10.0.{i >> 8}.{i & 255}}}}}"
            for i in range(first, last + 1)
        )

    await apply(store, parse_manifests(nodes(1, 4095)), actor="test")
    with pytest.raises(ZoneError) as caught:
        await apply(store, parse_manifests(nodes(4096, 4096)), actor="test")
    assert [problem.path for problem in caught.value.problems] == ["node n4096"]


EVERY = ("a", "auto", "tap")


def parse_ref(text: str) -> Ref:
    kind, _, path = text.partition(" ")
    return Ref.parse(Kind(kind), path)
