"""Every drop reason is produced at least once, counted once, and answers TC_ACT_SHOT.

The other modules test when; this table is what keeps the list of reasons honest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, IPv6, IPv6ExtHdrRouting
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from daemon.abi import DROP_SLOT_NODE, Drop, DropKey, Index, RifKey
from daemon.compiler.result import Outside
from daemon.model.policy import Action, Rule
from tests.bpf import topology as t
from tests.bpf.frames import PORT, echo, l3, payload, tcp, to, udp
from tests.bpf.lab import SHOT, Lab, Outcome, vxlan
from tests.bpf.outside import (
    BLOCK,
    BLOCK_N2,
    EXT_MAC,
    EXT_VNI,
    OUT,
    SHARED,
    zone_with_uplink,
)

pytestmark = pytest.mark.privileged

ALL = "ff:ff:ff:ff:ff:ff"
GROUP = "33:33:00:00:00:01"


def _denied(lab: Lab, direction: str) -> Outcome:
    lab.program(t.zone(t.shop(default={"ingress": "allow", "egress": "allow", direction: "deny"})))
    return lab.send("a", udp("a", "b"))


def _limit(lab: Lab) -> Outcome:
    lab.program(t.zone(changed={"a": {"qos": {"egress": {"rate_kbit": 10, "burst_kbyte": 2}}}}))
    return [lab.send("a", udp("a", "b", size=1300)) for _ in range(4)][-1]


def _interface(lab: Lab) -> Outcome:
    shop = t.shop()
    one, *others = shop.spec.routers
    rule = Rule(name="no", action=Action.DENY)
    faces = tuple(face.model_copy(update={"egress": (rule,)}) for face in one.interfaces)
    routers = (one.model_copy(update={"interfaces": faces}), *others)
    spec = shop.spec.model_copy(update={"routers": routers})
    lab.program(t.zone(shop.model_copy(update={"spec": spec})))
    return lab.send("a", udp("a", "d"))


def _no_router(lab: Lab) -> Outcome:
    lab.erase("plum_rif", RifKey(t.ONE, t.APP))
    return lab.send("a", udp("a", "d"))


def _flow_quota(lab: Lab) -> Outcome:
    lab.program(t.zone(changed={"a": {"flow_quota": 16}}))
    return [lab.send("a", udp("a", "b", sport=port)) for port in range(1, 18)][-1]


def _no_path(lab: Lab) -> Outcome:
    lab.erase("plum_node", Index(2))
    return lab.send("a", udp("a", "c"))


def _dhcp(lab: Lab) -> Outcome:
    head = Ether(src=t.mac("a"), dst=ALL) / IP(src="0.0.0.0", dst="255.255.255.255")
    return lab.send("a", head / UDP(sport=68, dport=67) / BOOTP())


def _punt_limit(lab: Lab) -> Outcome:
    lab.config(punt_per_s=0)
    return _dhcp(lab)


def _tail_call(lab: Lab) -> Outcome:
    lab.break_tail("slow_ep")
    return lab.send("a", udp("a", "b"))


def _overlap(lab: Lab) -> Outcome:
    lab.send("a", l3("a", "b", 4, flags="MF") / TCP(flags="S") / payload(4))
    return lab.send("a", l3("a", "b", 4, frag=1, proto=6) / payload(16))


def _balancer(lab: Lab, backend: str, *packets: Packet) -> Outcome:
    """What becomes of the last packet with a load balancer on UDP port 53."""
    front = {
        "name": "front",
        "bridge": "web",
        "addresses": ["10.0.1.200"],
        "listeners": [{"protocol": "udp", "port": 53}],
        "backends": [{"endpoint": backend}],
    }
    lab.program(t.zone(t.shop(load_balancers=[front])))
    return [lab.send("a", packet) for packet in packets][-1]


def _virtual(**more: Any) -> Packet:
    return to("a", "10.0.1.200", t.FRONT_MAC, **more)


def _public(source: str, l4: Packet, to: str) -> bytes:
    """From an edge or a gateway of node n2."""
    inner = Ether(src=EXT_MAC, dst=EXT_MAC) / IP(src=source, dst=to) / l4
    return vxlan(inner, vni=EXT_VNI)


def _as_gateway(lab: Lab) -> Outcome:
    """The next hop outside is asked for once; a second packet meanwhile is lost."""
    here = Outside("internet", lab.ifindex["outside"], "02:ee:00:00:00:01")
    lab.program(zone_with_uplink(("n1",)), outside=(here,))
    packet = _public(SHARED[4], UDP(sport=BLOCK_N2, dport=53), OUT[4])
    return [lab.receive(packet) for _ in range(2)][-1]


def _uplinked(lab: Lab, packet: Packet | bytes, **zone: Any) -> Outcome:
    lab.program(zone_with_uplink(**zone))
    return lab.receive(packet) if isinstance(packet, bytes) else lab.send("a", packet)


def _no_gateway(lab: Lab) -> Outcome:
    """The answer is an ICMP error, but a later fragment gets none."""
    lab.program(zone_with_uplink(), down=frozenset({("internet", "n2"), ("internet", "n3")}))
    first = to("a", OUT[4], flags="MF") / UDP(sport=PORT, dport=53, len=40) / payload(24)
    lab.send("a", first)
    return lab.send("a", to("a", OUT[4], frag=4, proto=17) / payload(8))


def _exhausted(lab: Lab) -> Outcome:
    lab.program(zone_with_uplink(block_ports=64))
    packets = [to("a", OUT[4]) / UDP(sport=port, dport=53) for port in range(10_000, 10_065)]
    return [lab.send("a", packet) for packet in packets][-1]


def _gone(lab: Lab) -> Outcome:
    packet = to("b", OUT[4]) / UDP(sport=PORT, dport=53)
    lab.program(zone_with_uplink())
    lab.send("b", packet)
    lab.program(zone_with_uplink(floating=[]))
    return lab.send("b", packet)


CASES: dict[Drop, Callable[[Lab], Outcome]] = {
    Drop.NOT_PROGRAMMED: lambda lab: lab.send("stranger", udp("a", "b")),
    Drop.TRUNCATED: lambda lab: lab.send("a", l3("a", "b", 4, proto=17) / payload(4)),
    Drop.MALFORMED: lambda lab: lab.send("a", l3("a", "b", 4, proto=58) / payload(8)),
    Drop.ETHERTYPE: lambda lab: lab.send(
        "a", Ether(src=t.mac("a"), dst=t.mac("b"), type=0x88CC) / payload(40)
    ),
    Drop.SOURCE_MAC: lambda lab: lab.send(
        "a", Ether(src=t.mac("b"), dst=ALL) / IP(src=t.ip4("a")) / UDP()
    ),
    Drop.SOURCE_ADDRESS: lambda lab: lab.send("a", to("a", t.ip4("b"), src="10.9.9.9") / UDP()),
    Drop.ARP_SPOOF: lambda lab: lab.send(
        "a", Ether(src=t.mac("a"), dst=ALL) / ARP(hwsrc=t.mac("a"), psrc=t.ip4("b"))
    ),
    Drop.ND_SPOOF: lambda lab: lab.send(
        "a",
        Ether(src=t.mac("a"), dst=GROUP)
        / IPv6(src=t.ip6("a"), dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=t.ip6("b")),
    ),
    Drop.ROGUE_DHCP: lambda lab: lab.send("a", udp("a", "b", sport=67, dport=68)),
    Drop.ROGUE_RA: lambda lab: lab.send(
        "a", Ether(src=t.mac("a"), dst=GROUP) / IPv6(src=t.lla("a"), dst="ff02::1") / ICMPv6ND_RA()
    ),
    Drop.IP_OPTIONS: lambda lab: lab.send(
        "a", to("a", t.ip4("b"), t.mac("b"), options=b"\x83\x03\x04\x00") / UDP()
    ),
    Drop.EXTENSION_HEADER: lambda lab: lab.send(
        "a", l3("a", "b", 6) / IPv6ExtHdrRouting(addresses=["::1"]) / UDP()
    ),
    Drop.FRAGMENT_FIRST: lambda lab: lab.send("a", l3("a", "b", 4, frag=5, proto=17) / payload(16)),
    Drop.FRAGMENT_OVERLAP: _overlap,
    Drop.FRAGMENT_TINY: lambda lab: lab.send(
        "a", l3("a", "b", 4, flags="MF", proto=6) / payload(8)
    ),
    Drop.TCP_FLAGS: lambda lab: lab.send("a", tcp("a", "b", "SF")),
    Drop.TCP_NO_HANDSHAKE: lambda lab: lab.send("a", tcp("a", "b", "A")),
    Drop.ICMP_UNRELATED: lambda lab: lab.send("a", l3("a", "b", 4) / echo(reply=True)),
    Drop.POLICY_EGRESS: lambda lab: _denied(lab, "egress"),
    Drop.POLICY_INGRESS: lambda lab: _denied(lab, "ingress"),
    Drop.POLICY_ROUTER: _interface,
    Drop.LIMIT: _limit,
    Drop.FLOW_QUOTA: _flow_quota,
    Drop.NO_ROUTE: lambda lab: lab.send("a", to("a", "8.8.8.8") / ICMP(type=3)),
    Drop.BLACKHOLE: lambda lab: lab.send("a", to("a", "198.51.100.1") / UDP()),
    Drop.NO_HOST: lambda lab: lab.send("a", to("a", "10.0.2.99") / ICMP(type=3)),
    Drop.NO_ROUTER: _no_router,
    Drop.ROUTE_LOOP: lambda lab: lab.send("a", to("a", "172.16.0.1") / UDP()),
    Drop.TTL: lambda lab: lab.send("a", to("a", t.ip4("d"), ttl=1) / ICMP(type=3)),
    Drop.MTU: lambda lab: lab.send("a", to("a", t.ip4("q")) / ICMP(type=3) / payload(1300)),
    Drop.LINK_LOCAL: lambda lab: lab.send("a", to("a", "169.254.169.254") / UDP()),
    Drop.FLOOD_OFF: lambda lab: lab.send("q", to("q", "10.0.3.99", ALL) / UDP()),
    Drop.VTEP: lambda lab: lab.receive(vxlan(udp("c", "a"), src="192.0.2.66")),
    Drop.VXLAN: lambda lab: lab.receive(vxlan(udp("c", "a"), last=1)),
    Drop.VNI: lambda lab: lab.receive(vxlan(udp("c", "a"), vni=1)),
    Drop.NOT_HERE: lambda lab: lab.receive(vxlan(udp("f", "c"))),
    Drop.NO_PATH: _no_path,
    Drop.PUNT_LIMIT: _punt_limit,
    Drop.PUNT_FULL: lambda lab: lab.without_reader(lambda: [_dhcp(lab) for _ in range(4)])[-1],
    Drop.RESPONDER: lambda lab: lab.send("q", udp("q", "a", sport=68, dport=67)),
    Drop.TAIL_CALL: _tail_call,
    Drop.HELPER: lambda lab: lab.receive(
        vxlan(Ether(src=t.mac("c"), dst=t.mac("a"), type=0x800) / payload(8))
    ),
    Drop.NO_LISTENER: lambda lab: _balancer(
        lab,
        "b",
        to("a", "8.8.8.8", t.FRONT_MAC) / echo(),  # a neighbour's MAC, another's address
    ),
    Drop.NO_BACKEND: lambda lab: _balancer(
        lab,
        "a",
        _virtual(flags="MF") / UDP(sport=PORT, dport=53, len=40) / payload(24),
        _virtual(frag=4, proto=17) / payload(8),  # the first was answered with an ICMP error
    ),
    Drop.FLOW_CLASH: lambda lab: _balancer(
        lab, "b", udp("a", "b", dport=53), _virtual() / UDP(sport=PORT, dport=53)
    ),
    Drop.NO_GATEWAY: _no_gateway,
    Drop.NO_PUBLIC: lambda lab: _uplinked(
        lab, _public(OUT[4], UDP(sport=53, dport=BLOCK), SHARED[4])
    ),
    Drop.NO_NEIGHBOUR: _as_gateway,
    Drop.NAT_EXHAUSTED: _exhausted,
    Drop.NAT_PROTOCOL: lambda lab: _uplinked(lab, to("a", OUT[4], proto=50) / payload(40)),
    Drop.NAT_GONE: _gone,
}


#: Reasons that a test run cannot bring about, and why.
OUT_OF_REACH = {
    Drop.FLOW_TABLE: "an LRU map takes every entry; an eviction between lookup and update is a race",
}


def test_every_reason_has_a_case_or_an_excuse() -> None:
    assert set(CASES) | set(OUT_OF_REACH) == set(Drop) - {Drop.NONE}
    assert not set(CASES) & set(OUT_OF_REACH)


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: reason.name)
def test_reason_is_counted_once_and_nothing_leaves(lab: Lab, reason: Drop) -> None:
    outcome = CASES[reason](lab)
    assert outcome.verdict == SHOT
    assert {drop: n for (_, drop), n in outcome.drops.items()} == {reason: 1}
    assert not outcome.received and not outcome.sent
    assert not lab.copies()


@pytest.mark.parametrize("tail", ["slow_ep", "judge", "send", "flood", "error", "balance"])
def test_missing_program_on_the_way_from_an_endpoint_drops(lab: Lab, tail: str) -> None:
    packets = {
        "flood": to("a", "10.0.1.255", ALL) / UDP(),
        "error": to("a", "8.8.8.8") / UDP() / payload(20),
        "balance": _virtual() / UDP(sport=PORT, dport=53),
    }
    _balancer(lab, "b", udp("a", "b", dport=9))
    lab.break_tail(tail)
    outcome = lab.send("a", packets.get(tail, udp("a", "b")))
    assert outcome.verdict == SHOT
    assert Drop.TAIL_CALL in {reason for _, reason in outcome.drops}
    assert not outcome.received and not lab.copies()


@pytest.mark.parametrize("tail", ["slow_ul", "judge", "send", "flood"])
def test_missing_program_on_the_way_from_a_tunnel_drops(lab: Lab, tail: str) -> None:
    packet = to("c", "10.0.1.255", ALL) / UDP() if tail == "flood" else udp("c", "a")
    lab.break_tail(tail)
    outcome = lab.receive(vxlan(packet / payload(20)))
    assert (outcome.verdict, outcome.drop) == (SHOT, Drop.TAIL_CALL)
    assert not outcome.received and not lab.copies()


def test_dropped_bytes_are_counted(lab: Lab) -> None:
    packet = udp("a", "b")
    for _ in range(2):
        lab.send("stranger", packet)
    row = lab.rows("plum_drop")[DropKey(DROP_SLOT_NODE, Drop.NOT_PROGRAMMED)]
    assert (row.packets, row.bytes) == (2, 2 * len(packet))
