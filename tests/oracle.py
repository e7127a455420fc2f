"""What must become of a packet, worked out by brute force from the model alone.

Shares no code with the compiler or its prediction: native address types, rules
read one by one in order, lists searched from end to end. Where the model leaves
a choice (several next hops) every possible answer is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from zoneinfo import ZoneInfo

from daemon.compiler.packet import Packet
from daemon.model.admin import AdminRule
from daemon.model.balancer import LoadBalancer
from daemon.model.base import Address, Network
from daemon.model.domain import Bridge, Router
from daemon.model.object import Domain, Endpoint
from daemon.model.policy import Action, Match, Rule
from daemon.model.schedule import Window
from daemon.model.snapshot import Snapshot

OUTSIDE = "outside the zone"  # no node or bridge is called that


class Fate(NamedTuple):
    """`what`: delivered, answered, flooded, outside or the name of a drop reason."""

    what: str
    endpoint: str = ""  # path of the endpoint delivered to
    egress: str | None = None  # rule that decided, "" the default, None not asked
    ingress: str | None = None
    smac: str = ""
    dmac: str = ""
    ttl: int = 0
    copies: tuple[tuple[str, str, str | None], ...] = ()  # endpoint, what, ingress rule
    routers: tuple[str, ...] = ()  # rules of interfaces that matched
    dscp: int = 0


#: Interfaces a packet passes: router, bridge, and which of the rules there.
Gates = tuple[tuple[Router, str, str], ...]


@dataclass(frozen=True)
class Found:
    """Whose a MAC or an address is."""

    router: Router | None = None
    balancer: LoadBalancer | None = None
    endpoint: Endpoint | None = None
    bridge: str = ""
    mac: str = ""
    bridges: tuple[str, ...] = ()  # of a router: those it holds on


@dataclass
class Oracle:
    snapshot: Snapshot
    tenant: str
    domain_name: str
    missing: frozenset[str] = frozenset()  # endpoints whose device does not exist
    moment: datetime | None = None  # None: every rule counts
    domain: Domain = field(init=False)
    members: dict[str, Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self.domain = self.snapshot.domains[f"{self.tenant}/{self.domain_name}"]
        self.members = {
            path: e
            for path, e in sorted(self.snapshot.endpoints.items())
            if (e.tenant, e.spec.domain) == (self.tenant, self.domain_name)
        }

    # ---- who is who

    def router_mac(self, router: Router) -> str:
        if router.mac:
            return router.mac
        number = self.domain.router_ids[router.name]
        return "02:72:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(4, "big"))

    def balancer_mac(self, balancer: LoadBalancer) -> str:
        return f"02:6c:00:00:{self.domain.balancer_ids[balancer.name].to_bytes(2, 'big').hex(':')}"

    @staticmethod
    def link_local(mac: str) -> str:
        parts = [int(part, 16) for part in mac.split(":")]
        parts[0] ^= 2
        parts[3:3] = [0xFF, 0xFE]
        words = [f"{parts[i] << 8 | parts[i + 1]:x}" for i in range(0, 8, 2)]
        return "fe80::" + ":".join(words)

    def path(self, endpoint: Endpoint) -> str:
        return f"{self.tenant}/{self.domain_name}/{endpoint.name}"

    def is_there(self, endpoint: Endpoint, node: str) -> bool:
        """Seen from a node: a missing device is known on its own node only."""
        return endpoint.spec.node != node or self.path(endpoint) not in self.missing

    def bridge(self, name: str) -> Bridge:
        return next(b for b in self.domain.spec.bridges if b.name == name)

    def routers_on(self, bridge: str) -> Iterator[Router]:
        for router in self.domain.spec.routers:
            if any(i.bridge == bridge for i in router.interfaces):
                yield router

    def owner_of_mac(self, bridge: str, mac: str, node: str) -> Found | None:
        for router in self.routers_on(bridge):
            if self.router_mac(router) == mac:
                return Found(router=router)
        for balancer in self.domain.spec.load_balancers:
            if balancer.bridge == bridge and self.balancer_mac(balancer) == mac:
                return Found(balancer=balancer)
        here = [e for e in self.members.values() if e.spec.bridge == bridge]
        for endpoint in here:
            if endpoint.mac == mac:
                return Found(endpoint=endpoint) if self.is_there(endpoint, node) else None
        users = [e for e in here if any(p.mac == mac for p in e.spec.allowed_pairs)]
        if len(users) == 1 and self.is_there(users[0], node):
            return Found(endpoint=users[0])
        return None

    def owner_of_address(self, address: Address, node: str) -> Found | None:
        for router in self.domain.spec.routers:
            bridges = tuple(i.bridge for i in router.interfaces)
            for interface in router.interfaces:
                if any(a.ip == address for a in interface.addresses):
                    return Found(router=router, bridges=bridges)
            if bridges and str(address) == str(_address(self.link_local(self.router_mac(router)))):
                return Found(router=router, bridges=bridges)
        for balancer in self.domain.spec.load_balancers:
            if address in balancer.addresses:
                return Found(balancer=balancer, bridge=balancer.bridge)
        for endpoint in self.members.values():
            if address in endpoint.addresses:
                if not self.is_there(endpoint, node):
                    return None
                return Found(endpoint=endpoint, bridge=endpoint.spec.bridge, mac=endpoint.mac)
        claims = []
        for endpoint in self.members.values():
            for pair in endpoint.spec.allowed_pairs:
                single = pair.address.num_addresses == 1
                if single and pair.address.network_address == address:
                    claims.append((endpoint, pair.mac or endpoint.mac))
                    break
        if len(claims) == 1 and self.is_there(claims[0][0], node):
            endpoint, mac = claims[0]
            return Found(endpoint=endpoint, bridge=endpoint.spec.bridge, mac=mac)
        return None

    def groups(self, endpoint: Endpoint) -> set[str]:
        labels = endpoint.spec.labels
        return {
            g.name
            for g in self.domain.spec.groups
            if g.labels and all(labels.get(k) == v for k, v in g.labels.items())
        }

    def groups_of_address(self, address: Address, node: str) -> set[str]:
        if node == OUTSIDE:
            return set()  # nobody out there is in a group
        found = self.owner_of_address(address, node)
        if found and found.endpoint:
            return self.groups(found.endpoint)
        if found and found.balancer:
            return set()  # nobody's own
        result: set[str] = set()
        for endpoint in self.members.values():
            if any(_within(address, p.address) for p in endpoint.spec.allowed_pairs):
                result |= self.groups(endpoint)
        return result

    # ---- policy

    def decide(
        self, endpoint: Endpoint, direction: str, peer: Address, packet: Packet, node: str
    ) -> tuple[bool, str]:
        mine = self.groups(endpoint)
        theirs = self.groups_of_address(peer, node)
        by_admin = self.decide_by_admin("admin", endpoint, direction, peer, packet, node)
        if by_admin is not None:
            return by_admin
        for policy in self.domain.spec.policies:
            if policy.applies_to is not None and policy.applies_to not in mine:
                continue
            for rule in policy.ingress if direction == "ingress" else policy.egress:
                if not _counts(rule, self.moment):
                    continue
                if _peer_matches(rule, peer, theirs) and _protocol_matches(rule, packet):
                    return rule.action is Action.ALLOW, f"{policy.name}/{direction}/{rule.name}"
        by_admin = self.decide_by_admin("baseline", endpoint, direction, peer, packet, node)
        if by_admin is not None:
            return by_admin
        default = self.domain.spec.default
        verdict = default.ingress if direction == "ingress" else default.egress
        return verdict is Action.ALLOW, ""

    def labels_of_address(self, address: Address, node: str) -> list[dict[str, str]]:
        """Of every endpoint that may be behind it."""
        if node == OUTSIDE:
            return []
        found = self.owner_of_address(address, node)
        if found and found.endpoint:
            return [found.endpoint.spec.labels]
        if found and found.balancer:
            return []
        return [
            e.spec.labels
            for e in self.members.values()
            if any(_within(address, p.address) for p in e.spec.allowed_pairs)
        ]

    def decide_by_admin(
        self,
        tier: str,
        endpoint: Endpoint,
        direction: str,
        peer: Address,
        packet: Packet,
        node: str,
    ) -> tuple[bool, str] | None:
        theirs = self.labels_of_address(peer, node)
        everyone = self.snapshot.admin_policies.values()
        for policy in sorted(everyone, key=lambda one: (one.spec.order, one.name)):
            chosen = policy.spec.applies_to
            owners = (*chosen.tenants, *chosen.domains)
            mine = {self.tenant, f"{self.tenant}/{self.domain_name}"}
            if policy.spec.tier.value != tier or (owners and mine.isdisjoint(owners)):
                continue
            if not chosen.labels.items() <= endpoint.spec.labels.items():
                continue
            spec = policy.spec
            for rule in spec.ingress if direction == "ingress" else spec.egress:
                if (
                    not _counts(rule, self.moment)
                    or not _protocol_matches(rule, packet)
                    or not _is_admin_peer(rule, peer, theirs)
                ):
                    continue
                if rule.action.value == "pass":
                    return None
                path = f"admin:{policy.name}/{direction}/{rule.name}"
                return rule.action.value == "allow", path
        return None

    # ---- the way

    def mtu(self, bridge: str) -> int:
        limits = [
            n.spec.underlay_mtu - (50 if n.spec.vtep.version == 4 else 70)
            for n in self.snapshot.nodes.values()
        ]
        own = self.bridge(bridge).mtu
        return min(limits) if own is None else min(own, *limits)

    def fates(self, sender: str, packet: Packet) -> set[Fate]:
        source = self.members[sender]
        if sender in self.missing:
            return {Fate("NOT_PROGRAMMED")}
        if _malformed(packet):
            return {Fate("MALFORMED")}
        spoof = self.spoofed(source, packet)
        if spoof:
            return {Fate(spoof)}
        if packet.src == packet.dst:
            return {Fate("MALFORMED")}
        bridge, node = source.spec.bridge, source.spec.node
        found = self.owner_of_mac(bridge, packet.dmac, node)
        if found and found.router and self.is_name_server(found.router, bridge, packet):
            return {Fate("answered")}
        if found and found.router:
            return set(self.routed(source, packet, found.router, 1, bridge))
        if found and found.balancer:
            return set(self.balanced(source, packet, found.balancer, packet.ttl))
        if found and found.endpoint:
            macs = (packet.smac, packet.dmac)
            return {self.last_mile(source, packet, bridge, found.endpoint, macs, packet.ttl)}
        return {self.flooded(source, packet)}

    def is_name_server(self, router: Router, bridge: str, packet: Packet) -> bool:
        if self.domain.spec.dns is None or packet.protocol not in (6, 17) or packet.dport != 53:
            return False
        faces = [face for face in router.interfaces if face.bridge == bridge]
        return any(packet.dst == address.ip for face in faces for address in face.addresses)

    def spoofed(self, source: Endpoint, packet: Packet) -> str:
        if packet.protocol == 17 and packet.sport == (67 if packet.src.version == 4 else 547):
            return "ROGUE_DHCP"
        if (packet.protocol, packet.icmp_type) in ((1, 5), (58, 134), (58, 137)):
            return "ROGUE_RA"
        sources: list[tuple[str, Network | Address]] = []
        sources += [(source.mac, address) for address in source.addresses]
        sources.append((source.mac, _address(self.link_local(source.mac))))
        sources += [(p.mac or source.mac, p.address) for p in source.spec.allowed_pairs]
        macs = [mac for mac, a in sources if packet.src == a or _within(packet.src, a)]
        if packet.smac in macs:
            return ""
        return "SOURCE_MAC" if source.mac in macs else "SOURCE_ADDRESS"

    def routed(
        self,
        source: Endpoint,
        packet: Packet,
        router: Router,
        count: int,
        near: str,
        gates: Gates = (),
    ) -> Iterator[Fate]:
        """`near`: the bridge it comes from; `gates`: interfaces passed before."""
        node = source.spec.node
        if count > 4:
            yield Fate("ROUTE_LOOP")
            return
        target = self.owner_of_address(packet.dst, node)
        if target and target.router is router:
            echo = (packet.protocol, packet.icmp_type) in ((1, 8), (58, 128))
            yield Fate("answered" if echo else "RESPONDER")
            return
        private = ("127.0.0.0/8", "169.254.0.0/16", "fe80::/10", "::/96")
        group = ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")
        if (
            _in_any(packet.src, private)
            or _in_any(packet.dst, private)
            or _in_any(packet.dst, group)
        ):
            yield Fate("LINK_LOCAL")
            return
        ttl = packet.ttl - (count - 1)
        if ttl <= 1:
            yield Fate("TTL")
            return
        for bridge, next_address in self.next_hops(router, packet.dst):
            if not bridge:
                yield Fate(next_address)
                continue
            if bridge == OUTSIDE:
                yield self.leaving(source, packet, router, (*gates, (router, near, "egress")))
                continue
            address = packet.dst if next_address == "" else _address(next_address)
            found = self.owner_of_address(address, node)
            if found is None or found.router is router:
                yield Fate("NO_HOST")
                continue
            leaving = bridge if found.router else found.bridge
            passed = (*gates, (router, near, "egress"), (router, leaving, "ingress"))
            if found.router:
                yield from self.routed(source, packet, found.router, count + 1, bridge, passed)
            elif found.balancer and next_address and address != packet.dst:
                yield Fate("NO_HOST")
            elif found.balancer:
                yield from self.balanced(source, packet, found.balancer, ttl - 1, passed)
            elif found.endpoint:
                macs = (self.router_mac(router), found.mac)
                if packet.length > self.mtu(found.bridge):
                    yield Fate("MTU")
                elif router not in self.routers_on(found.bridge):
                    yield Fate("NO_ROUTER")
                else:
                    yield self.last_mile(
                        source, packet, found.bridge, found.endpoint, macs, ttl - 1, gates=passed
                    )

    def leaving(self, source: Endpoint, packet: Packet, router: Router, gates: Gates) -> Fate:
        """Out of the zone, with another address. Ports are never short in these zones."""
        assert router.uplink
        external = self.snapshot.externals[router.uplink.network].spec
        limits = [
            n.spec.underlay_mtu - (50 if n.spec.vtep.version == 4 else 70)
            for n in self.snapshot.nodes.values()
        ]
        if packet.length > min(external.mtu, *limits):
            return Fate("MTU")
        if _unrelated(packet):
            return Fate("ICMP_UNRELATED")
        allowed, egress = self.decide(source, "egress", packet.dst, packet, OUTSIDE)
        if not allowed:
            return Fate("POLICY_EGRESS", egress=egress)
        allowed, asked = self.past_gates(gates, packet, source.spec.node, outside=True)
        if not allowed:
            return Fate("POLICY_ROUTER", egress=egress, routers=asked)
        echo = (packet.protocol, packet.icmp_type) in ((1, 8), (58, 128))
        own = [
            endpoint.addresses
            for endpoint in self.members.values()
            for floating in router.uplink.floating
            if floating.endpoint == endpoint.name
            and floating.address.version == packet.src.version
            and endpoint.spec.node == source.spec.node
            and self.is_there(endpoint, source.spec.node)
        ]
        firsts = [[a for a in many if a.version == packet.src.version][:1] for many in own]
        renumbered = any(
            _within(packet.src, prefix.inside)
            and packet.src in endpoint.addresses
            and endpoint.spec.node == source.spec.node
            and self.is_there(endpoint, source.spec.node)
            for prefix in router.uplink.prefixes
            for endpoint in self.members.values()
        )
        if [packet.src] in firsts or renumbered:
            return Fate("outside", egress=egress, routers=asked)
        if packet.protocol not in (6, 17) and not echo:
            return Fate("NAT_PROTOCOL", egress=egress, routers=asked)
        if not any(net.version == packet.src.version for net in external.nat):
            return Fate("NAT_EXHAUSTED", egress=egress, routers=asked)
        return Fate("outside", egress=egress, routers=asked)

    def balanced(
        self,
        source: Endpoint,
        packet: Packet,
        balancer: LoadBalancer,
        ttl: int,
        gates: Gates = (),
    ) -> Iterator[Fate]:
        """One fate for each backend it may be given to."""
        echo = (packet.protocol, packet.icmp_type) in ((1, 8), (58, 128))
        names = {6: "tcp", 17: "udp"}
        listeners = [
            one
            for one in balancer.listeners
            if (names.get(packet.protocol), packet.dport) == (one.protocol.value, one.port)
        ]
        if packet.dst not in balancer.addresses:
            yield Fate("NO_LISTENER")
        elif packet.protocol in (1, 58):
            yield Fate("answered" if echo else "RESPONDER")
        elif not listeners:
            yield Fate("NO_LISTENER")
        else:
            to_port = listeners[0].to_port or listeners[0].port
            yield from self.at_a_backend(source, packet, balancer, to_port, ttl, gates)

    def at_a_backend(
        self,
        source: Endpoint,
        packet: Packet,
        balancer: LoadBalancer,
        to_port: int,
        ttl: int,
        gates: Gates,
    ) -> Iterator[Fate]:
        weights = {backend.endpoint: backend.weight for backend in balancer.backends}
        choices: list[Address] = []
        for endpoint in self.members.values():
            member = balancer.group in self.groups(endpoint)
            if weights.get(endpoint.name, 1 if member else 0):
                own = [a for a in endpoint.addresses if a.version == packet.dst.version]
                choices += own[:1]
        if not choices or packet.src in choices:
            yield Fate("NO_BACKEND")
        for address in choices:
            found = self.owner_of_address(address, source.spec.node)
            if address == packet.src:
                continue
            if found is None or found.endpoint is None:
                yield Fate("NO_BACKEND")
                continue
            macs = (self.balancer_mac(balancer), found.mac)
            arriving = replace(packet, dst=address, dport=to_port)
            yield self.last_mile(
                source, packet, found.bridge, found.endpoint, macs, ttl, arriving, gates
            )

    def next_hops(self, router: Router, dst: Address) -> list[tuple[str, str]]:
        """(bridge, address) of each choice, address "" the destination; ("", drop reason)."""
        candidates: list[tuple[int, int, list[tuple[str, str]]]] = []
        connected = [
            (interface.bridge, address.network)
            for interface in router.interfaces
            for address in interface.addresses
        ]
        for bridge, net in connected:
            if _within(dst, net):
                candidates.append((net.prefixlen, 2, [(bridge, "")]))
        for static in router.routes:
            if not _within(dst, static.to):
                continue
            hops = []
            for via in static.via:
                nets = [(n.prefixlen, b) for b, n in connected if _within(via, n)]
                if nets:
                    hops.append((max(nets, key=lambda one: one[0])[1], str(via)))
            if static.blackhole or not hops:
                hops = [("", "BLACKHOLE")]
            candidates.append((static.to.prefixlen, 1, hops))
        if router.uplink is not None and router.uplink.network in self.snapshot.externals:
            external = self.snapshot.externals[router.uplink.network].spec
            if any(net.version == dst.version for net in (*external.nat, *external.floating)):
                candidates.append((0, 0, [(OUTSIDE, "")]))
        if not candidates:
            return [("", "NO_ROUTE")]
        return max(candidates, key=lambda one: one[:2])[2]

    def last_mile(
        self,
        source: Endpoint,
        packet: Packet,
        bridge: str,
        target: Endpoint,
        macs: tuple[str, str],
        ttl: int,
        arriving: Packet | None = None,  # as the receiver gets it, if rewritten
        gates: Gates = (),
    ) -> Fate:
        fate = self.at_the_end(source, packet, bridge, target, macs, ttl, arriving)
        if fate.egress is None or fate.what == "POLICY_EGRESS":
            return fate
        allowed, asked = self.past_gates(gates, packet, source.spec.node)
        if not allowed:
            return Fate("POLICY_ROUTER", egress=fate.egress, routers=asked)
        return fate._replace(routers=asked)

    def past_gates(
        self, gates: Gates, packet: Packet, node: str, *, outside: bool = False
    ) -> tuple[bool, tuple[str, ...]]:
        """The first rule of each interface that matches, until one denies."""
        asked: list[str] = []
        for router, bridge, direction in gates:
            face = next((f for f in router.interfaces if f.bridge == bridge), None)
            if face is None:
                continue
            peer = packet.src if direction == "ingress" else packet.dst
            beyond = outside and direction == "egress"
            theirs = self.groups_of_address(peer, OUTSIDE if beyond else node)
            for rule in face.ingress if direction == "ingress" else face.egress:
                if not _counts(rule, self.moment):
                    continue
                if _peer_matches(rule, peer, theirs) and _protocol_matches(rule, packet):
                    asked.append(f"router:{router.name}:{bridge}/{direction}/{rule.name}")
                    if rule.action is Action.DENY:
                        return False, tuple(asked)
                    break
        return True, tuple(asked)

    def at_the_end(
        self,
        source: Endpoint,
        packet: Packet,
        bridge: str,
        target: Endpoint,
        macs: tuple[str, str],
        ttl: int,
        arriving: Packet | None,
    ) -> Fate:
        if packet.length > self.mtu(bridge):
            return Fate("MTU")
        if _unrelated(packet):
            return Fate("ICMP_UNRELATED")
        allowed, egress = self.decide(source, "egress", packet.dst, packet, source.spec.node)
        if not allowed:
            return Fate("POLICY_EGRESS", egress=egress)
        node = target.spec.node
        if node != source.spec.node:  # there only the MAC counts
            found = self.owner_of_mac(bridge, macs[1], node)
            if found is None:
                if not self.bridge(bridge).flood:
                    return Fate("FLOOD_OFF", egress=egress)
                here = [e for e in self.members.values() if e.spec.node == node]
                copies = self.copies(arriving or packet, bridge, here)
                return Fate("flooded", egress=egress, copies=copies)
            if found.endpoint is None or found.endpoint.spec.node != node:
                return Fate("NOT_HERE", egress=egress)
            target = found.endpoint
        what, ingress = self.arrival(arriving or packet, target)
        if what != "delivered":
            return Fate(what, egress=egress, ingress=ingress)
        mark = source.spec.qos.dscp or 0
        return Fate(what, self.path(target), egress, ingress, *macs, ttl, dscp=mark)

    def arrival(self, packet: Packet, target: Endpoint) -> tuple[str, str]:
        allowed, rule = self.decide(target, "ingress", packet.src, packet, target.spec.node)
        return ("delivered" if allowed else "POLICY_INGRESS"), rule

    def copies(
        self, packet: Packet, bridge: str, targets: list[Endpoint]
    ) -> tuple[tuple[str, str, str | None], ...]:
        return tuple(
            sorted(
                (self.path(target), *self.arrival(packet, target))
                for target in targets
                if target.spec.bridge == bridge and self.path(target) not in self.missing
            )
        )

    def flooded(self, source: Endpoint, packet: Packet) -> Fate:
        bridge = self.bridge(source.spec.bridge)
        if not bridge.flood:
            return Fate("FLOOD_OFF")
        if packet.length > self.mtu(bridge.name):
            return Fate("MTU")
        if _unrelated(packet):
            return Fate("ICMP_UNRELATED")
        allowed, egress = self.decide(source, "egress", packet.dst, packet, source.spec.node)
        if not allowed:
            return Fate("POLICY_EGRESS", egress=egress)
        targets = []
        for endpoint in self.members.values():
            if endpoint.spec.node == source.spec.node:
                if endpoint is not source:
                    targets.append(endpoint)
                continue
            found = self.owner_of_mac(bridge.name, packet.dmac, endpoint.spec.node)
            if found is None or found.endpoint is endpoint:  # that node may know the MAC
                targets.append(endpoint)
        return Fate("flooded", egress=egress, copies=self.copies(packet, bridge.name, targets))


def _address(text: str) -> Address:
    return ip_address(text)


def _within(address: Address, net: Network | Address) -> bool:
    if isinstance(net, IPv4Network | IPv6Network):
        return address.version == net.version and address in net
    return False


def _in_any(address: Address, texts: tuple[str, ...]) -> bool:
    return any(_within(address, ip_network(text)) for text in texts)


def _malformed(packet: Packet) -> bool:
    mapped = ("::ffff:0:0/96",)
    return (
        _in_any(packet.src, ("224.0.0.0/3", "ff00::/8", *mapped))
        or _in_any(packet.dst, mapped)
        or (packet.protocol == 1 and packet.src.version == 6)
        or (packet.protocol == 58 and packet.src.version == 4)
    )


def _unrelated(packet: Packet) -> bool:
    if packet.protocol == 1:
        return packet.icmp_type in (0, 3, 4, 5, 11, 12, 14, 16, 18)
    return packet.protocol == 58 and (packet.icmp_type < 128 or packet.icmp_type == 129)


def _peer_matches(rule: Rule, peer: Address, groups: set[str]) -> bool:
    if rule.peers is None:
        return True
    return any(
        (p.group is not None and p.group in groups)
        or (p.cidr is not None and _within(peer, p.cidr))
        for p in rule.peers
    )


def _counts(rule: Match, moment: datetime | None) -> bool:
    return moment is None or not rule.active or is_open_by_the_clock(rule.active, moment)


def is_open_by_the_clock(windows: tuple[Window, ...], moment: datetime) -> bool:
    """Reads the clock on the wall there: which minute of which weekday is it?"""
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    for window in windows:
        there = moment.astimezone(ZoneInfo(window.zone))
        minute = there.hour * 60 + there.minute
        today, yesterday = names[there.weekday()], names[there.weekday() - 1]
        first, last = window.hours.start_min, window.hours.end_min
        if first < last:
            if today in window.days and first <= minute < last:
                return True
        elif (today in window.days and first <= minute) or (
            yesterday in window.days and minute < last
        ):
            return True
    return False


def _is_admin_peer(rule: AdminRule, peer: Address, labels: list[dict[str, str]]) -> bool:
    if rule.peers is None:
        return True
    return any(
        (p.cidr is not None and _within(peer, p.cidr))
        or (p.labels and any(p.labels.items() <= one.items() for one in labels))
        for p in rule.peers
    )


def _protocol_matches(rule: Match, packet: Packet) -> bool:
    names = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmp6": 58}
    if rule.protocol is not None:
        wanted = names[rule.protocol] if rule.protocol in names else int(rule.protocol)
        if packet.protocol != wanted:
            return False
    if rule.ports:
        if packet.protocol not in (6, 17, 132):
            return False
        if not any(p.first <= packet.dport <= p.last for p in rule.ports):
            return False
    if rule.icmp_type is not None or rule.icmp_code is not None:
        if packet.protocol not in (1, 58):
            return False
        if rule.icmp_type is not None and packet.icmp_type != rule.icmp_type:
            return False
        if rule.icmp_code is not None and packet.icmp_code != rule.icmp_code:
            return False
    return True
