"""Random small zones and packets. The same seed is the same zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random
from typing import Any

from daemon.compiler.packet import Packet
from daemon.compiler.result import Device
from daemon.model.admin import AdminPolicySpec
from daemon.model.base import Address
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.external import ExternalSpec, NatBlock
from daemon.model.mac import balancer_mac, link_local, router_mac
from daemon.model.node import NodeSpec
from daemon.model.object import AdminPolicy, Domain, Endpoint, External, Node
from daemon.model.snapshot import Snapshot

CIDRS = (
    "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/23", "10.0.1.0/24", "10.0.1.0/28",
    "10.0.2.0/24", "10.0.3.8/29", "10.0.1.11/32", "10.0.2.10/32", "10.0.1.1/32", "172.16.0.0/12",
    "203.0.113.0/24", "203.0.113.128/25", "::/0", "::/1", "fd00::/8", "fd00:1::/32",
    "fd00:1::/64", "fd00:1::/120", "fd00:2::/64", "fd00:2::b/128", "2001:db8::/32", "fe80::/10",
)  # fmt: skip
ROUTED = ("0.0.0.0/0", "::/0", "::/1", "203.0.113.0/24", "203.0.113.128/25", "203.0.113.7/32",
          "2001:db8::/32", "2001:db8:1::/48", "10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/25",
          "10.0.2.10/32", "10.0.3.0/24", "fd00:1::/64", "fd00:2::/48", "172.16.0.0/12")  # fmt: skip
PAIRS = ("10.0.1.100/32", "10.0.2.100/32", "203.0.113.7/32", "203.0.113.0/24", "203.0.113.128/26",
         "fd00:1::100/128", "2001:db8::/48", "2001:db8::7/128", "10.0.1.0/24", "0.0.0.0/0", "::/0",
         "::/1")  # fmt: skip
OUTSIDE = ("203.0.113.7", "203.0.113.200", "203.0.113.9", "172.16.5.5", "192.0.2.1", "2001:db8::7",
           "2001:db8:1::1", "2a00::1", "10.0.1.100", "10.0.2.100", "10.0.3.250", "fd00:1::100",
           "fd00:9::1", "fe80::1", "169.254.1.1", "127.0.0.1", "224.0.0.5", "ff02::5",
           "8000::1")  # fmt: skip
PORTS = (0, 1, 22, 79, 80, 81, 443, 1000, 1500, 2000, 8080, 65534, 65535)
LABELS: tuple[dict[str, str], ...] = (
    {"app": "web"},
    {"app": "db"},
    {"app": "web", "tier": "1"},
    {"tier": "1"},
    {},
)
ROUTER4, ROUTER6 = "198.18.0.254", "2001:db8:f::fe"
EXTERNAL_VNI = 90_000
PAIR_MACS = ("02:aa:00:00:00:01", "02:aa:00:00:00:02")


@dataclass(frozen=True)
class Zone:
    seed: int
    snapshot: Snapshot
    devices: dict[str, Device]  # by endpoint path, of all nodes
    missing: frozenset[str]


#: Far from any rate that a test reaches: what is random here is who is asked.
QOS: tuple[dict[str, object], ...] = (
    *({}, {}, {}),
    {"dscp": "ef"},
    {"egress": {"rate_kbit": 10_000_000}, "dscp": 10},
    {"ingress": {"rate_kbit": 10_000_000}},
)


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.next_id = self.random.randrange(1, 1000)
        self.underlay = self.random.choice(("192.168.9.{}",) * 4 + ("2001:db8:ffff::{:x}",))

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def some(self, choices: Sequence[Any], low: int, high: int) -> list[Any]:
        return self.random.sample(list(choices), min(self.random.randint(low, high), len(choices)))

    def node(self, number: int) -> Node:
        vtep = self.underlay.format(number)
        spec = NodeSpec(vtep=ip_address(vtep), underlay_mtu=self.random.choice((1500, 1500, 1600)))
        return Node(name=f"n{number}", id=number, spec=spec)

    def domain(self, tenant: str) -> Domain:
        bridges = [self.bridge(number) for number in range(1, self.random.randint(1, 4) + 1)]
        routers = [self.router(n, bridges) for n in range(1, self.random.randint(0, 2) + 1)]
        if len(routers) == 2 and self.chance(0.5):
            self.ring(*routers)
        balancers = [self.balancer(n, bridges) for n in range(self.random.choice((0, 0, 1, 2)))]
        groups = [
            {"name": f"g{index}", "labels": labels}
            for index, labels in enumerate(self.some(LABELS, 0, 5))
        ]
        spec = DomainSpec.model_validate(
            {
                "default": {
                    "ingress": self.random.choice(("allow", "allow", "deny")),
                    "egress": self.random.choice(("allow", "allow", "deny")),
                },
                "bridges": bridges,
                "routers": routers,
                "load_balancers": balancers,
                "groups": groups,
                "policies": [self.policy(f"p{i}") for i in range(self.random.randint(0, 4))],
                **({"dns": {}} if self.chance(0.4) else {}),
            }
        )
        return Domain(
            tenant=tenant,
            name="d",
            spec=spec,
            id=self.new_id(),
            vnis={b["name"]: self.new_id() for b in bridges},
            router_ids={r["name"]: self.new_id() for r in routers},
            balancer_ids={b["name"]: self.new_id() for b in balancers},
        )

    def bridge(self, number: int) -> dict[str, Any]:
        family = self.random.choice(("4", "6", "46", "46"))
        subnets = [f"10.0.{number}.0/24"] if "4" in family else []
        subnets += [f"fd00:{number}::/64"] if "6" in family else []
        return {
            "name": f"b{number}",
            "subnets": subnets,
            "mtu": self.random.choice((None, None, 1280, 1400)),
            "flood": self.chance(0.75),
        }

    def router(self, number: int, bridges: list[dict[str, Any]]) -> dict[str, Any]:
        interfaces = []
        for bridge in self.some(bridges, 1, 4):
            addresses = []
            for subnet in bridge["subnets"]:
                net = ip_network(subnet)
                addresses.append(f"{net.network_address + number}/{net.prefixlen}")
            if addresses:
                face = {"bridge": bridge["name"], "addresses": addresses}
                interfaces.append({**face, **self.gate()})
        routes = []
        for prefix in self.some(ROUTED, 0, 5):
            version = ip_network(prefix).version
            vias = self.next_hops(version, bridges)
            blackhole = self.chance(0.15)
            routes.append(
                {
                    "to": prefix,
                    "via": [] if blackhole else self.some(vias, 1, 3),
                    "blackhole": blackhole,
                }
            )
        mac = f"02:bb:00:00:00:{number:02x}" if self.chance(0.2) else None
        return {"name": f"r{number}", "interfaces": interfaces, "routes": routes, "mac": mac}

    def gate(self) -> dict[str, Any]:
        """Rules of an interface; most have none. The rest of the zone does not depend on them."""
        state = self.random.getstate()
        rules = {
            direction: [self.rule(f"r{i}") for i in range(self.random.randint(1, 3))]
            for direction in ("ingress", "egress")
        }
        wanted = self.chance(0.4)
        self.random.setstate(state)
        return rules if wanted else {}

    def balancer(self, number: int, bridges: list[dict[str, Any]]) -> dict[str, Any]:
        bridge = self.random.choice(bridges)
        listeners = {
            (self.random.choice(("tcp", "udp")), self.random.choice(PORTS[1:]))
            for _ in range(self.random.randint(1, 5))
        }
        backends = self.some(range(1, 9), 0, 4)
        return {
            "name": f"l{number}",
            "bridge": bridge["name"],
            "addresses": [
                str(ip_network(net).network_address + 200 + number) for net in bridge["subnets"]
            ],
            "listeners": [
                {"protocol": protocol, "port": port, "to_port": self.random.choice(PORTS[1:])}
                for protocol, port in sorted(listeners)
            ],
            "group": self.random.choice((None, "g0", "g1")),
            "backends": [
                {"endpoint": f"e{n}", "weight": self.random.choice((0, 1, 1, 3))} for n in backends
            ],
            "affinity": self.random.choice(("none", "none", "source")),
        }

    def ring(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """Default routes of two routers at each other, where they share a bridge."""
        for mine in one["interfaces"]:
            for theirs in other["interfaces"]:
                if mine["bridge"] != theirs["bridge"]:
                    continue
                for a, b in zip(mine["addresses"], theirs["addresses"], strict=True):
                    to = "::/0" if ":" in a else "0.0.0.0/0"
                    one["routes"].insert(0, {"to": to, "via": [b.partition("/")[0]]})
                    other["routes"].insert(0, {"to": to, "via": [a.partition("/")[0]]})
                return

    def next_hops(self, version: int, bridges: list[dict[str, Any]]) -> list[str]:
        """Routers, endpoints, shared addresses, and addresses nobody has."""
        nets = [ip_network(s) for b in bridges for s in b["subnets"]]
        last = (1, 2, 2, 1, 10, 11, 12, 100, 250)
        found = {str(n.network_address + i) for n in nets if n.version == version for i in last}
        return sorted(found) or ["192.0.2.1" if version == 4 else "2001:db8::1"]

    def policy(self, name: str) -> dict[str, Any]:
        rules = {
            direction: [self.rule(f"r{i}") for i in range(self.random.randint(0, 5))]
            for direction in ("ingress", "egress")
        }
        return {"name": name, "applies_to": self.random.choice((None, None, "g0", "g1", "g9")),
                **rules}  # fmt: skip

    def admin_policy(self, name: str) -> AdminPolicy:
        tier = self.random.choice(("admin", "admin", "baseline"))
        rules = {
            direction: [self.admin_rule(f"r{i}", tier) for i in range(self.random.randint(0, 4))]
            for direction in ("ingress", "egress")
        }
        chosen: dict[str, Any] = {}
        if self.chance(0.3):
            chosen["tenants"] = [self.random.choice(("t1", "t2", "t3"))]
        if self.chance(0.3):
            chosen["domains"] = [self.random.choice(("t1/d", "t2/d", "t1/other"))]
        if self.chance(0.3):
            chosen["labels"] = self.random.choice(LABELS)
        order = self.random.choice((10, 20, 1000))
        spec = {"tier": tier, "order": order, "applies_to": chosen, **rules}
        return AdminPolicy(name=name, spec=AdminPolicySpec.model_validate(spec))

    def admin_rule(self, name: str, tier: str) -> dict[str, Any]:
        rule = self.rule(name)
        passes = ("pass", "pass", "pass") if tier == "admin" else ()
        rule["action"] = self.random.choice(("allow", "deny", *passes))
        if "peers" in rule:
            rule["peers"] = [
                {"labels": self.random.choice(LABELS)} if "group" in peer else peer
                for peer in rule["peers"]
            ]
        return rule

    def rule(self, name: str) -> dict[str, Any]:
        protocol = self.random.choice(
            (None, None, "tcp", "tcp", "udp", "sctp", "icmp", "icmp6", "47", "6", "58")
        )
        rule: dict[str, Any] = {
            "name": name,
            "action": self.random.choice(("allow", "allow", "deny")),
            "protocol": protocol,
        }
        if self.chance(0.75):
            rule["peers"] = [
                {"group": self.random.choice(("g0", "g1", "g2", "g3", "g9"))}
                if self.chance(0.4)
                else {"cidr": self.random.choice(CIDRS)}
                for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))
            ]
        if protocol in ("tcp", "udp", "sctp", "6") and self.chance(0.6):
            rule["ports"] = [self.ports() for _ in range(self.random.randint(1, 3))]
        if protocol in ("icmp", "icmp6", "58") and self.chance(0.6):
            rule["icmp_type"] = self.random.choice((8, 13, 128, 255))
            if self.chance(0.4):
                rule["icmp_code"] = self.random.choice((0, 1, 255))
        return rule

    def ports(self) -> str:
        first, last = sorted((self.random.choice(PORTS), self.random.choice(PORTS)))
        return f"{first}-{last}" if self.chance(0.6) else str(first)

    def endpoint(self, number: int, domain: Domain, node: str, slot: int) -> Endpoint:
        bridge = self.random.choice(domain.spec.bridges)
        addresses = [net.network_address + 9 + number for net in bridge.subnets]
        if len(addresses) > 1 and self.chance(0.2):
            addresses.pop(self.random.randrange(2))
        pairs = [
            {"address": prefix, "mac": self.random.choice(PAIR_MACS) if self.chance(0.4) else None}
            for prefix in (self.some(PAIRS, 1, 3) if self.chance(0.35) else ())
        ]
        spec = EndpointSpec.model_validate(
            {
                "domain": "d",
                "bridge": bridge.name,
                "node": node,
                "labels": self.random.choice(LABELS),
                "allowed_pairs": pairs,
                "qos": self.random.choice(QOS),
            }
        )
        return Endpoint(
            tenant=domain.tenant,
            name=f"e{number}",
            spec=spec,
            id=self.new_id(),
            slot=slot,
            mac=f"02:65:00:00:00:{number:02x}",  # the same in every domain
            addresses=tuple(addresses),
        )


def _external(maker: _Maker, nodes: Sequence[Node]) -> External:
    """A network outside, of one family or both, with some of the nodes for gateways."""
    gateways = [
        {
            "node": node.name,
            "device": "ext0",
            "addresses": [f"198.18.0.{node.id}/24", f"2001:db8:f::{node.id}/64"],
        }
        for node in maker.some(nodes, 1, 3)
    ]
    family = maker.random.choice(("4", "6", "46", "46"))
    spec = {
        "gateways": gateways,
        "routes": [{"to": "0.0.0.0/0", "via": [ROUTER4]}, {"to": "::/0", "via": [ROUTER6]}],
        "nat": [net for net in ("198.18.1.0/24", "2001:db8:f:1::/120") if _family(net) in family],
        "floating": ["198.18.2.0/24", "2001:db8:f:2::/120", "2001:db8:e::/48"],
        "mtu": maker.random.choice((1500, 1500, 1280, 1400)),
    }
    return External(name="internet", spec=ExternalSpec.model_validate(spec), vni=EXTERNAL_VNI)


def _family(net: str) -> str:
    return str(ip_network(net).version)


def _with_uplinks(
    maker: _Maker, domain: Domain, members: Sequence[Endpoint], external: External, turn: int
) -> Domain:
    """Some of its routers lead outside; every node has ports there."""
    spec = domain.spec.model_dump(mode="json", exclude_unset=True)
    blocks: dict[str, dict[str, tuple[NatBlock, ...]]] = {}
    for index, router in enumerate(spec["routers"]):
        if not maker.chance(0.6):
            continue
        number = 4 * turn + index + 1
        floating = [
            {"address": f"198.18.2.{16 * number + i}", "endpoint": endpoint.name}
            for i, endpoint in enumerate(maker.some(members, 0, 2))
        ]
        router["uplink"] = {"network": external.name, "floating": floating}
        if maker.chance(0.4):
            inside = maker.random.choice(("fd00:1::/64", "fd00:2::/64"))
            pair = {"inside": inside, "outside": f"2001:db8:e:{number:x}::/64"}
            router["uplink"]["prefixes"] = [pair]
        nodes = sorted({endpoint.spec.node for endpoint in members})
        blocks[router["name"]] = {
            node: tuple(
                NatBlock(address=net.network_address + number, first=4096 * (i + 1))
                for net in external.spec.nat
            )
            for i, node in enumerate(nodes)
        }
    made = DomainSpec.model_validate(spec)
    return domain.model_copy(update={"spec": made, "nat_blocks": blocks})


def zone(seed: int) -> Zone:
    """1-3 nodes and 1-2 domains of different tenants with overlapping addresses."""
    maker = _Maker(seed)
    nodes = [maker.node(number) for number in range(1, maker.random.randint(1, 3) + 1)]
    domains = {}
    endpoints = {}
    devices = {}
    missing = set()
    slots = {node.name: 0 for node in nodes}
    for tenant in ("t1", "t2")[: maker.random.choice((1, 1, 2))]:
        domain = maker.domain(tenant)
        domains[f"{tenant}/d"] = domain
        for number in range(1, maker.random.randint(2, 8) + 1):
            node = maker.random.choice(nodes).name
            endpoint = maker.endpoint(number, domain, node, slots[node])
            slots[node] += 1
            path = f"{tenant}/d/{endpoint.name}"
            endpoints[path] = endpoint
            if maker.chance(0.04):
                missing.add(path)
            else:
                devices[path] = Device(100 + endpoint.slot, maker.chance(0.2))
    externals = {}
    if maker.chance(0.5):
        external = _external(maker, nodes)
        externals[external.name] = external
        for turn, (path, domain) in enumerate(domains.items()):
            members = [e for p, e in endpoints.items() if p.startswith(f"{path}/")]
            domains[path] = _with_uplinks(maker, domain, members, external, turn)
    named = {node.name: node for node in nodes}
    count = maker.random.choice((0, 0, 1, 2, 3))
    admin = {name: maker.admin_policy(name) for name in ("a1", "a2", "a3")[:count]}
    snapshot = Snapshot(seed, {}, named, domains, endpoints, externals, admin)
    return Zone(seed, snapshot, devices, frozenset(missing))


def packet(random: Random, zone: Zone, sender: str) -> Packet:
    """Mostly one that a real guest would send; sometimes spoofed or unroutable."""
    source = zone.snapshot.endpoints[sender]
    domain = zone.snapshot.domains[f"{source.tenant}/{source.spec.domain}"]
    members = [
        e for e in zone.snapshot.endpoints.values()
        if (e.tenant, e.spec.domain) == (source.tenant, source.spec.domain)
    ]  # fmt: skip
    owners = _owners(domain, members)
    src, smac = _source(random, source, owners)
    targets: list[Address] = [a for a in owners if a.version == src.version]
    targets += [a for a in owners if a.version == src.version]
    targets += [a for e in members for a in e.addresses if a.version == src.version] * 6
    targets += [a for a in map(ip_address, OUTSIDE) if a.version == src.version]
    dst = random.choice(targets)
    listeners = [
        ({"tcp": 6, "udp": 17}[one.protocol.value], one.port, virtual)
        for balancer in domain.spec.load_balancers
        for virtual in balancer.addresses
        if virtual.version == src.version
        for one in balancer.listeners
    ]
    protocol = random.choice((6, 6, 6, 17, 17, 132, 1, 58, 47, 0))
    dport = random.choice(PORTS)
    if listeners and random.random() < 0.25:
        protocol, dport, dst = random.choice(listeners)
    gateways = _gateways(domain, source, src.version)
    if gateways and random.random() < 0.03:
        protocol, dport, dst = random.choice((6, 17)), 53, random.choice(gateways)
    dmac = _next_mac(random, domain, source, owners.get(dst))
    if protocol in (1, 58) and random.random() < 0.97:
        protocol = 1 if src.version == 4 else 58
    return Packet(
        smac=smac,
        dmac=dmac,
        src=src,
        dst=dst,
        protocol=protocol,
        sport=random.choice((40000,) * 30 + (67, 547)),
        dport=dport,
        icmp_type=random.choice((8, 13, 128, 128, 8, 128, 8, 255, 0, 3, 5, 129, 134)),
        icmp_code=random.choice((0, 0, 1, 255)),
        ttl=random.choice((64, 64, 64, 64, 64, 64, 255, 255, 4, 3, 2, 1)),
        length=random.choice((60,) * 40 + (1280, 1281, 1400, 1401, 1430, 1431, 1450, 1451, 1550)),
    )


def _gateways(domain: Domain, source: Endpoint, version: int) -> list[Address]:
    """Routers' addresses on the sender's bridge."""
    return [
        address.ip
        for router in domain.spec.routers
        for face in router.interfaces
        if face.bridge == source.spec.bridge
        for address in face.addresses
        if address.version == version
    ]


def _owners(domain: Domain, members: Sequence[Endpoint]) -> dict[Address, tuple[str, str]]:
    """Address -> bridge ("" a router's link-local address) and MAC."""
    owners: dict[Address, tuple[str, str]] = {}
    for endpoint in members:
        for pair in endpoint.spec.allowed_pairs:
            if pair.address.num_addresses == 1:
                owner = (endpoint.spec.bridge, pair.mac or endpoint.mac)
                owners[pair.address.network_address] = owner
    for endpoint in members:
        for address in endpoint.addresses:
            owners[address] = (endpoint.spec.bridge, endpoint.mac)
    for balancer in domain.spec.load_balancers:
        for virtual in balancer.addresses:
            mac = balancer_mac(domain.balancer_ids[balancer.name])
            owners[virtual] = (balancer.bridge, mac)
    for router in domain.spec.routers:
        mac = router.mac or router_mac(domain.router_ids[router.name])
        for interface in router.interfaces:
            owners[link_local(mac)] = ("", mac)
            for own in interface.addresses:
                owners[own.ip] = (interface.bridge, mac)
    return owners


def _source(
    random: Random, source: Endpoint, owners: dict[Address, tuple[str, str]]
) -> tuple[Address, str]:
    smac = source.mac
    choice = random.random()
    addresses: list[Address] = list(source.addresses)
    if choice < 0.06 or not addresses:
        return link_local(smac), smac
    if choice < 0.14:
        return random.choice([*owners, *map(ip_address, OUTSIDE)]), smac
    if choice < 0.18:
        return random.choice(addresses), random.choice((*PAIR_MACS, "02:65:00:00:00:01"))
    if choice < 0.40 and source.spec.allowed_pairs:
        pair = random.choice(source.spec.allowed_pairs)
        net = pair.address
        host: IPv4Address | IPv6Address = net.network_address
        if net.num_addresses > 1:
            host = host + random.choice((1, 7, 10, 129 if net.num_addresses > 200 else 3))
            if net.prefixlen == 0 and random.random() < 0.5:
                host = ip_address("203.0.113.9" if net.version == 4 else "2001:db8::7")
        return host, pair.mac or smac
    return random.choice(addresses), smac


def _next_mac(
    random: Random, domain: Domain, source: Endpoint, owner: tuple[str, str] | None
) -> str:
    """What a guest would resolve: the target on its bridge, else a router."""
    routers = [
        router.mac or router_mac(domain.router_ids[router.name])
        for router in domain.spec.routers
        if any(i.bridge == source.spec.bridge for i in router.interfaces)
    ]
    strange = ["02:99:00:00:00:01", PAIR_MACS[0], "02:65:00:00:00:01", "02:65:00:00:00:02"]
    if random.random() < 0.08:
        return random.choice(strange + routers)
    if owner and owner[0] in ("", source.spec.bridge) and random.random() < 0.9:
        return owner[1]
    return random.choice(routers or strange)
