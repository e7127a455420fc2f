"""ROUTE and ICMP_ERROR: hops, TTLs, next hops, and what senders are told."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.abi import Drop, RifKey
from daemon.model.mac import link_local
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, checked, echo, l3, payload, tcp, to, udp
from tests.bpf.lab import SHOT, Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged


def routed(packet: Packet, name: str, hops: int = 1) -> bytes:
    """The packet as `name` gets it after so many routers."""
    out = packet.copy()
    last = t.TWO_MAC if name == "z" else t.ONE_MAC
    out[Ether].src, out[Ether].dst = last, t.mac(name)
    if IP in out:
        out[IP].ttl -= hops
    else:
        out[IPv6].hlim -= hops
    return bytes(out)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("target", "hops"), [("d", 1), ("z", 2), ("q", 1)])
def test_routed_packet_has_new_macs_and_ttl_on_both_paths(
    lab: Lab, family: int, target: str, hops: int
) -> None:
    packet = udp("a", target, family)
    slow = lab.send("a", packet)
    assert slow.delivered_to == target
    assert slow.frame == routed(packet, target, hops)
    checked(slow.frame)
    with lab.fast_path_only():
        fast = lab.send("a", packet)
    assert (fast.delivered_to, fast.frame) == (target, slow.frame)


@pytest.mark.parametrize("family", FAMILIES)
def test_routed_packet_to_another_node(lab: Lab, family: int) -> None:
    packet = udp("a", "e", family)
    slow = lab.send("a", packet)
    assert (slow.tunnel.vni, slow.tunnel.inner) == (t.APP, routed(packet, "e"))
    with lab.fast_path_only():
        assert lab.send("a", packet).frame == slow.frame


@pytest.mark.parametrize("hops", [("d", 1), ("z", 2)])
def test_header_checksum_is_right_for_every_carry(lab: Lab, hops: tuple[str, int]) -> None:
    """RFC 1624: the sum that is 0xffff before or after. Fast and slow agree in every bit."""
    target, count = hops
    base = udp("a", target)
    base[IP].id = 0
    del base[IP].chksum
    total = 0xFFFF ^ Ether(bytes(base))[IP].chksum
    lab.send("a", base)
    for before in (0x0000, 0x0001, 0x00FF, 0x0100, 0xFDFF, 0xFE00, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFE):
        packet = base.copy()
        packet[IP].id = ((0xFFFF ^ before) - total) % 0xFFFF
        data = Ether(bytes(packet))
        assert data[IP].chksum == before
        want = routed(packet, target, count)
        with lab.fast_path_only():
            fast = lab.send("a", packet).frame
        lab.edit_flows(epoch=1)
        slow = lab.send("a", packet).frame
        assert fast == slow == want, hex(before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("target", "hops"), [("d", 1), ("z", 2)])
def test_ttl_ends_at_the_router_that_takes_the_last(
    lab: Lab, family: int, target: str, hops: int
) -> None:
    assert lab.send("a", udp("a", target, family)).delivered_to == target
    enough = l3("a", target, family, ttl=hops + 1) / UDP(sport=40000, dport=5000) / payload(40)
    assert lab.send("a", enough).delivered_to == target
    for ttl in range(hops + 1):
        packet = l3("a", target, family, ttl=ttl) / UDP(sport=40000, dport=5000) / payload(40)
        outcome = lab.send("a", packet)
        assert outcome.drops == {("a", Drop.TTL): 1}
        router = t.gateway("web", family)
        if ttl == hops and hops == 2:
            router = t.gateway("link", family, 2)
        told(outcome, packet, router, time_exceeded(family))


def time_exceeded(family: int) -> Packet:
    return ICMP(type=11, code=0) if family == 4 else ICMPv6TimeExceeded(code=0)


def unreachable(family: int, code4: int, code6: int) -> Packet:
    return ICMP(type=3, code=code4) if family == 4 else ICMPv6DestUnreach(code=code6)


def told(outcome: Outcome, packet: Packet, router: str, message: Packet) -> None:
    """The outcome is this ICMP error from the router, byte by byte."""
    whole = bytes(packet)[14:]
    quote = whole[: min(len(whole), 128) & ~3]
    head = Ether(src=packet[Ether].dst, dst=packet[Ether].src)
    if IP in packet:
        head /= IP(src=router, dst=packet[IP].src, tos=0xC0, id=0, ttl=64)
    else:
        head /= IPv6(src=router, dst=packet[IPv6].src, hlim=64)
    want = bytes(head / message / quote)
    assert outcome.verdict == 7
    assert outcome.frame == want, f"\n{Ether(outcome.frame)!r}\n{Ether(want)!r}"
    assert not outcome.received and not outcome.sent


REFUSALS = {
    "no route": ("8.8.8.8", "2600::1", Drop.NO_ROUTE, 0, 0),
    "no host": ("10.0.2.77", "2001:db8:2::77", Drop.NO_HOST, 1, 3),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 1, 30, 500])
def test_refused_packet_is_answered_with_unreachable(
    lab: Lab, case: Any, family: int, size: int
) -> None:
    target, reason = case[0 if family == 4 else 1], case[2]
    packet = to("a", target) / UDP(sport=1, dport=2) / payload(size)
    outcome = lab.send("a", packet)
    assert outcome.drops == {("a", reason): 1}
    told(outcome, packet, t.gateway("web", family), unreachable(family, case[3], case[4]))


def test_next_hop_that_nobody_has_is_no_host(lab: Lab) -> None:
    packet = to("a", "100.64.1.1") / UDP(sport=1, dport=2) / payload(20)
    outcome = lab.send("a", packet)
    assert outcome.drop == Drop.NO_HOST
    told(outcome, packet, t.gateway("web"), unreachable(4, 1, 3))


def test_ipv6_default_routes_catch_no_ipv4(lab: Lab) -> None:
    routes = [*t.ONE_ROUTES, {"to": "::/0", "via": ["2001:db8:2::11"]}]
    spec = t.shop().spec.model_dump(mode="json", exclude_unset=True)
    spec["routers"][0]["routes"] = routes
    lab.program(t.zone(t.shop(routers=spec["routers"])))
    assert lab.send("a", to("a", "2600::1") / UDP()).delivered_to == "d"
    assert lab.send("a", to("a", "8.8.8.8") / UDP()).drop == Drop.NO_ROUTE


@pytest.mark.parametrize("target", ["198.51.100.7", "2001:db8:dead::7"])
def test_blackhole_is_silent(lab: Lab, target: str) -> None:
    outcome = lab.send("a", to("a", target) / UDP())
    assert (outcome.verdict, outcome.drops) == (SHOT, {("a", Drop.BLACKHOLE): 1})


@pytest.mark.parametrize("family", FAMILIES)
def test_too_many_routers_end_the_way(lab: Lab, family: int) -> None:
    target = "172.16.0.1" if family == 4 else "2001:db8:100::1"
    assert lab.send("a", to("a", target) / UDP()).drop == Drop.ROUTE_LOOP


@pytest.mark.parametrize("target", ["203.0.113.9", "2001:db8:cafe::9"])
def test_static_route_leads_through_an_endpoint(lab: Lab, target: str) -> None:
    packet = to("a", target) / UDP(sport=1, dport=2) / payload(9)
    outcome = lab.send("a", packet)
    assert (outcome.delivered_to, outcome.frame) == ("w", routed(packet, "w"))
    back = to("w", t.ip("a", 6 if ":" in target else 4), src=target) / UDP(sport=2, dport=1)
    assert lab.send("w", back).delivered_to == "a"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (None, "169.254.1.1"),
        (None, "127.0.0.1"),
        (None, "224.0.0.9"),
        (None, "255.255.255.255"),
        (None, "fe80::99"),
        (None, "::1"),
        (None, "ff05::1"),
        ("lla", "2001:db8:2::11"),
    ],
)
def test_link_local_is_not_routed(lab: Lab, source: str | None, target: str) -> None:
    more: dict[str, Any] = {"src": t.lla("a")} if source else {}
    outcome = lab.send("a", to("a", target, **more) / UDP())
    assert (outcome.verdict, outcome.drop) == (SHOT, Drop.LINK_LOCAL)


def test_missing_interface_is_no_router(lab: Lab) -> None:
    lab.erase("plum_rif", RifKey(t.ONE, t.APP))
    assert lab.send("a", udp("a", "d")).drop == Drop.NO_ROUTER


@pytest.mark.parametrize("family", FAMILIES)
def test_ecmp_stays_per_flow_and_spreads_flows(lab: Lab, family: int) -> None:
    if family == 6:
        spec = t.shop().spec.model_dump(mode="json", exclude_unset=True)
        vias = [f"2001:db8:2::{n}" for n in (11, 12, 13)]
        spec["routers"][0]["routes"] = [{"to": "2001:db8:aaaa::/48", "via": vias}]
        lab.program(t.zone(t.shop(routers=spec["routers"])))
    target = "192.168.7.7" if family == 4 else "2001:db8:aaaa::7"
    chosen: set[str | None] = set()
    for port in range(1000, 1030):
        packet = to("a", target) / UDP(sport=port, dport=2) / payload(9)
        ways = {_way(lab.send("a", packet)) for _ in range(3)}
        lab.edit_flows(epoch=1)
        ways.add(_way(lab.send("a", packet)))
        assert len(ways) == 1
        chosen |= ways
    assert chosen == {"d", "e", "w"}


def _way(outcome: Outcome) -> str | None:
    return outcome.delivered_to or ("e" if outcome.tunnel.vni == t.APP else None)


ROUTER_ADDRESSES = [
    ("a", t.gateway("web"), t.ONE_MAC),
    ("a", t.gateway("web", 6), t.ONE_MAC),
    ("a", t.gateway("app"), t.ONE_MAC),  # its other side
    ("a", t.gateway("app", 6), t.ONE_MAC),
    ("a", t.gateway("link", 4, 2), t.ONE_MAC),  # of the router behind
    ("a", t.gateway("far"), t.ONE_MAC),
    ("a", t.gateway("far", 6), t.ONE_MAC),
    ("z", t.gateway("web"), t.TWO_MAC),
    ("a", str(link_local(t.ONE_MAC)), t.ONE_MAC),
]


@pytest.mark.parametrize(("source", "address", "mac"), ROUTER_ADDRESSES)
@pytest.mark.parametrize("size", [0, 1, 56, 1000])
def test_router_answers_pings(lab: Lab, source: str, address: str, mac: str, size: int) -> None:
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "deny"})))
    family = 6 if ":" in address else 4
    request = to(source, address, mac) / echo(family, size=size)
    outcome = lab.send(source, request)
    want = to(source, address, mac) / echo(family, size=size, reply=True)
    want[Ether].src, want[Ether].dst = mac, t.mac(source)
    ip = want.payload
    ip.src, ip.dst = address, t.ip(source, family)
    assert outcome.answered and not outcome.drops
    assert outcome.frame == bytes(want)
    assert checked(outcome.frame).haslayer(ICMP if family == 4 else ICMPv6EchoReply)
    assert not lab.flows()


@pytest.mark.parametrize("family", FAMILIES)
def test_router_refuses_other_traffic_to_itself(lab: Lab, family: int) -> None:
    router = t.gateway("web", family)
    for l4 in (UDP(sport=1, dport=2) / payload(20), TCP(sport=1, dport=179, flags="S")):
        packet = to("a", router) / l4
        outcome = lab.send("a", packet)
        assert outcome.drop == Drop.RESPONDER
        told(outcome, packet, router, unreachable(family, 3, 4))
    other: dict[str, Any] = {"proto": 47} if family == 4 else {"nh": 47}
    silent = lab.send("a", to("a", router, **other) / payload(20))
    assert (silent.verdict, silent.drop) == (SHOT, Drop.RESPONDER)


# ---- MTU ------------------------------------------------------------------


def big(source: str, target: str, family: int, size: int) -> Packet:
    """An IP packet of so many bytes."""
    head = 28 if family == 4 else 48
    return l3(source, target, family) / UDP(sport=40000, dport=5000) / payload(size - head)


@pytest.mark.parametrize("family", FAMILIES)
def test_packet_over_the_next_bridges_mtu_is_told(lab: Lab, family: int) -> None:
    assert lab.send("a", big("a", "q", family, 1280)).delivered_to == "q"
    for way in range(2):
        packet = big("a", "q", family, 1281)
        outcome = lab.send("a", packet)
        assert outcome.drops == {("a", Drop.MTU): 1}, way
        message = ICMP(type=3, code=4, nexthopmtu=1280)
        if family == 6:
            message = ICMPv6PacketTooBig(mtu=1280)
        told(outcome, packet, t.gateway("web", family), message)


@pytest.mark.parametrize("family", FAMILIES)
def test_packet_over_its_own_bridges_mtu_is_told(lab: Lab, family: int) -> None:
    mtu = 1550  # 1600 less the tunnel over IPv4
    assert lab.send("a", big("a", "b", family, mtu)).delivered_to == "b"
    packet = big("a", "b", family, mtu + 1)
    outcome = lab.send("a", packet)
    assert outcome.drop == Drop.MTU
    message = ICMP(type=3, code=4, nexthopmtu=mtu) if family == 4 else ICMPv6PacketTooBig(mtu=mtu)
    told(outcome, packet, t.ip("b", family), message)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "q"])
def test_gso_packet_is_measured_by_its_segments(lab: Lab, family: int, target: str) -> None:
    """Not towards a node: a test run's GSO packet has no type, so it cannot be wrapped."""
    mtu = 1280 if target == "q" else 1550
    head = 40 if family == 4 else 60
    lab.send("a", tcp("a", target, "S", family, 999))
    lab.send(target, tcp(target, "a", "SA", family, 5000, 1000, 80, 40000))
    packet = tcp("a", target, "A", family, 1000, 5001, size=2000)
    for _ in range(2):
        fits = lab.send("a", packet, gso_size=mtu - head)
        assert fits.verdict == 7 and not fits.drops
        assert lab.send("a", packet, gso_size=mtu - head + 1).drop == Drop.MTU


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_are_never_answered_with_errors(lab: Lab, family: int) -> None:
    """RFC 1122 3.2.2, RFC 4443 2.4."""
    target = "8.8.8.8" if family == 4 else "2600::1"
    message = ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach(code=4)
    outcome = lab.send("a", to("a", target) / message / bytes(udp("a", "d", family))[14:])
    assert (outcome.verdict, outcome.drop) == (SHOT, Drop.NO_ROUTE)
    low = to("a", t.ip("d", family), ttl=1) / message / bytes(udp("a", "d", family))[14:]
    assert (lab.send("a", low).verdict, lab.send("a", low).drop) == (SHOT, Drop.TTL)


@pytest.mark.parametrize("family", FAMILIES)
def test_tunnelled_packet_is_not_routed_here(lab: Lab, family: int) -> None:
    """The sender's node routes; a frame for a router's MAC is a sender's stale view."""
    packet = udp("c", "d", family)
    assert packet[Ether].dst == t.ONE_MAC
    assert lab.receive(vxlan(packet)).drops == {("node", Drop.NOT_HERE): 1}


def test_echo_request_to_a_router_needs_a_ttl(lab: Lab) -> None:
    assert lab.send("a", to("a", t.gateway("web"), ttl=1) / echo()).answered
    assert lab.send("a", to("a", t.gateway("web"), ttl=0) / echo()).verdict == SHOT
    assert lab.send("a", to("a", t.gateway("far"), ttl=1) / echo()).drop == Drop.TTL
