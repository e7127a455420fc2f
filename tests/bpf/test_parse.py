"""PARSE: every header truncated, out of range, or refused; and what must pass."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet
from scapy.utils import checksum

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, l3, payload, tcp, udp
from tests.bpf.lab import Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged


def patched(packet: Packet, offset: int, value: bytes) -> bytes:
    """Bytes replaced, counted from the IP header."""
    data = bytearray(bytes(packet))
    data[14 + offset : 14 + offset + len(value)] = value
    return bytes(data)


def both_ways(lab: Lab, frame: Packet | bytes) -> list[Outcome]:
    """From an endpoint, and as the inner frame of a tunnel (a to b)."""
    return [lab.send("a", frame), lab.receive(vxlan(bytes(frame)))]


BROKEN: dict[str, tuple[Packet | bytes, Drop]] = {
    "IPv4 version": (patched(udp("a", "b"), 0, b"\x65"), Drop.MALFORMED),
    "IPv4 header length": (patched(udp("a", "b"), 0, b"\x44"), Drop.MALFORMED),
    "IPv4 total length below header": (patched(udp("a", "b"), 2, b"\0\x13"), Drop.MALFORMED),
    "IPv4 total length above frame": (patched(udp("a", "b"), 2, b"\0\x3d"), Drop.TRUNCATED),
    "IPv4 multicast source": (patched(udp("a", "b"), 12, b"\xe0\0\0\1"), Drop.MALFORMED),
    "IPv4 broadcast source": (patched(udp("a", "b"), 12, b"\xff" * 4), Drop.MALFORMED),
    "IPv4 options beyond header": (patched(udp("a", "b"), 0, b"\x4f\0\0\x20"), Drop.MALFORMED),
    "IPv6 version": (patched(udp("a", "b", 6), 0, b"\x40"), Drop.MALFORMED),
    "IPv6 payload length above frame": (patched(udp("a", "b", 6), 4, b"\0\x29"), Drop.TRUNCATED),
    "IPv6 multicast source": (patched(udp("a", "b", 6), 8, b"\xff\x02"), Drop.MALFORMED),
    "IPv6 mapped source": (
        patched(udp("a", "b", 6), 8, bytes(10) + b"\xff\xff\x0a\0\1\x0b"),
        Drop.MALFORMED,
    ),
    "IPv6 mapped target": (
        patched(udp("a", "b", 6), 24, bytes(10) + b"\xff\xff\x0a\0\1\x0c"),
        Drop.MALFORMED,
    ),
    "UDP length below header": (patched(udp("a", "b"), 24, b"\0\x07"), Drop.MALFORMED),
    "UDP length above packet": (patched(udp("a", "b"), 24, b"\x7f\0"), Drop.TRUNCATED),
    "UDP length above packet, IPv6": (patched(udp("a", "b", 6), 44, b"\x7f\0"), Drop.TRUNCATED),
    "UDP cut": (l3("a", "b", 4, proto=17) / payload(7), Drop.TRUNCATED),
    "UDP cut, IPv6": (l3("a", "b", 6, nh=17) / payload(7), Drop.TRUNCATED),
    "SCTP cut": (l3("a", "b", 4, proto=132) / payload(7), Drop.TRUNCATED),
    "TCP cut": (l3("a", "b", 4, proto=6) / payload(19), Drop.TRUNCATED),
    "TCP offset below header": (patched(tcp("a", "b", "S"), 32, b"\x40"), Drop.MALFORMED),
    "TCP offset above packet": (patched(tcp("a", "b", "S"), 32, b"\x60"), Drop.TRUNCATED),
    "ICMP cut": (l3("a", "b", 4, proto=1) / payload(7), Drop.TRUNCATED),
    "ICMPv6 cut": (l3("a", "b", 6, nh=58) / payload(7), Drop.TRUNCATED),
    "ICMPv6 in IPv4": (l3("a", "b", 4, proto=58) / payload(8), Drop.MALFORMED),
    "ICMP in IPv6": (l3("a", "b", 6, nh=1) / payload(8), Drop.MALFORMED),
    "LLDP": (Ether(src=t.mac("a"), dst=t.mac("b"), type=0x88CC) / payload(50), Drop.ETHERTYPE),
    "VLAN tag": (
        Ether(src=t.mac("a"), dst=t.mac("b")) / Dot1Q(vlan=1) / IP() / payload(50),
        Drop.ETHERTYPE,
    ),
    "length field": (
        Ether(src=t.mac("a"), dst=t.mac("b"), type=60) / payload(60),
        Drop.ETHERTYPE,
    ),
}


@pytest.mark.parametrize(("frame", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_header_is_dropped(lab: Lab, frame: Packet | bytes, reason: Drop) -> None:
    assert lab.send("a", frame).drops == {("a", reason): 1}
    assert not lab.flows()
    assert lab.receive(vxlan(bytes(frame).ljust(60, b"\0"))).drop == reason
    assert not lab.flows()


def test_known_flow_does_not_excuse_a_broken_header(lab: Lab) -> None:
    """The fast path misses what it does not understand."""
    for family in FAMILIES:
        assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    for name, (frame, reason) in BROKEN.items():
        assert lab.send("a", frame).drop == reason, name


@pytest.mark.parametrize("option", [131, 137])
@pytest.mark.parametrize("before", [b"", b"\x01", b"\x07\x07\x04\0\0\0\0\x01"])
def test_source_routes_are_refused(lab: Lab, option: int, before: bytes) -> None:
    raw = before + bytes([option, 7, 4, 10, 0, 2, 11])
    for outcome in both_ways(lab, with_options(raw + bytes(-len(raw) % 4))):
        assert outcome.drop == Drop.IP_OPTIONS


@pytest.mark.parametrize(
    "options",
    [b"\x07\x07\x04\0\0\0\0\0", b"\x94\x04\0\0", b"\x01" * 4, b"\x01" * 40, b"\0" * 40],
    ids=["record-route", "router-alert", "nop", "all-nop", "end"],
)
def test_other_options_pass(lab: Lab, options: bytes) -> None:
    packet = with_options(options)
    for outcome in both_ways(lab, packet):
        assert outcome.delivered_to == "b"
        assert outcome.frame == packet
    outcome = lab.send("a", with_options(options, "d"))
    assert outcome.delivered_to == "d"
    assert outcome.packet[IP].ttl == 63
    assert checksum(outcome.frame[14 : 34 + len(options)]) == 0


@pytest.mark.parametrize(
    "options",
    [b"\x07\x01\0\0", b"\x07\0\0\0", b"\x01\x01\x01\x07", b"\x07\x28\x04\0"],
    ids=["too-short", "no-length", "cut", "too-long"],
)
def test_options_with_wrong_lengths_are_malformed(lab: Lab, options: bytes) -> None:
    for outcome in both_ways(lab, with_options(options)):
        assert outcome.drop == Drop.MALFORMED


def with_options(options: bytes, target: str = "b") -> bytes:
    """A UDP packet from a with these bytes as IPv4 options."""
    data = bytes(l3("a", target, 4) / UDP(sport=1, dport=2) / payload(9))
    header = bytearray(data[14:34])
    header[0] = 0x45 + len(options) // 4
    header[2:4] = (len(data) - 14 + len(options)).to_bytes(2, "big")
    header[10:12] = bytes(2)
    header += options
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return data[:14] + bytes(header) + data[34:]


HOP = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
DST = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
AH = b"\x04\x00\0\0" + bytes(12)  # next header is patched in; 24 bytes in all


def _chain(*headers: Packet) -> Packet:
    packet = l3("a", "b", 6)
    for header in headers:
        packet /= header.copy()
    return packet / UDP(sport=40000, dport=5000) / payload(32)


def _with_ah() -> Packet:
    header = b"\x11\x04\0\0" + bytes(20)
    return l3("a", "b", 6, nh=51) / header / UDP(sport=40000, dport=5000) / payload(32)


CHAINS = {
    "hop-by-hop": _chain(HOP),
    "destination options": _chain(DST),
    "both": _chain(HOP, DST),
    "six": _chain(HOP, *[DST] * 5),
    "atomic fragment": _chain(IPv6ExtHdrFragment(id=1)),
    "authentication": _with_ah(),
}


@pytest.mark.parametrize("packet", CHAINS.values(), ids=CHAINS)
def test_extension_headers_pass_and_hide_nothing(lab: Lab, packet: Packet) -> None:
    """The flow is that of the ports behind them; a rule on ports sees them."""
    for outcome in both_ways(lab, packet):
        assert outcome.delivered_to == "b"
        assert outcome.frame == bytes(packet)
    assert {(key.sport, key.dport, key.proto) for key in lab.flows()} == {
        (40000, 5000, 17),
        (5000, 40000, 17),
    }
    rule = {"name": "no", "action": "deny", "protocol": "udp", "ports": ["5000"]}
    lab.program(t.zone(t.shop(policies=[{"name": "p", "ingress": [rule]}])))
    for outcome in both_ways(lab, packet):
        assert outcome.drop == Drop.POLICY_INGRESS


REFUSED = {
    "routing type 0": (_chain(IPv6ExtHdrRouting(addresses=["2001:db8::1"])), Drop.EXTENSION_HEADER),
    "segment routing": (_chain(IPv6ExtHdrRouting(type=4)), Drop.EXTENSION_HEADER),
    "routing behind options": (_chain(HOP, DST, IPv6ExtHdrRouting()), Drop.EXTENSION_HEADER),
    "seven": (_chain(HOP, *[DST] * 6), Drop.EXTENSION_HEADER),
    "two fragment headers": (
        _chain(IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(m=1)),
        Drop.EXTENSION_HEADER,
    ),
    "options longer than the packet": (
        patched(_chain(HOP), 41, b"\xff"),
        Drop.TRUNCATED,
    ),
    "cut in the chain": (l3("a", "b", 6, nh=0) / b"\x3c\0\0\0", Drop.TRUNCATED),
    "nothing behind the chain": (
        l3("a", "b", 6, nh=0) / (b"\x11\0\1\4" + bytes(4)),
        Drop.TRUNCATED,
    ),
}


@pytest.mark.parametrize(("packet", "reason"), REFUSED.values(), ids=REFUSED)
def test_extension_headers_that_are_refused(lab: Lab, packet: Packet, reason: Drop) -> None:
    for outcome in both_ways(lab, packet):
        assert outcome.drop == reason
    assert not lab.flows()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("flags", ["", "SF", "SR", "SAF", "SAR", "F", "FPU", "PU", "SFRPAU"])
def test_impossible_tcp_flags_are_refused(lab: Lab, family: int, flags: str) -> None:
    for outcome in both_ways(lab, tcp("a", "b", flags, family)):
        assert outcome.drop == Drop.TCP_FLAGS


@pytest.mark.parametrize("family", FAMILIES)
def test_other_protocols_pass_and_make_flows(lab: Lab, family: int) -> None:
    number = {"proto": 47} if family == 4 else {"nh": 47}
    packet = l3("a", "b", family, **number) / payload(40)
    assert lab.send("a", packet).delivered_to == "b"
    sctp = l3("a", "b", family) / SCTP(sport=5, dport=6)
    assert lab.send("a", sctp).delivered_to == "b"
    assert {(k.proto, k.sport, k.dport) for k in lab.flows() if k.ctx == lab.ifindex["a"]} == {
        (47, 0, 0),
        (132, 5, 6),
    }


def test_ethernet_padding_is_no_error(lab: Lab) -> None:
    frame = bytes(l3("a", "b", 4) / echo(size=0)).ljust(60, b"\0")
    for outcome in both_ways(lab, frame):
        assert outcome.delivered_to == "b"
        assert outcome.frame == frame


def test_any_prefix_of_a_packet_is_survived(lab: Lab) -> None:
    """No length of a frame makes the program answer anything but a drop of it."""
    packets = [udp("a", "b"), tcp("a", "b", "S", 6), _chain(HOP, DST), l3("a", "b", 4) / ICMP()]
    for packet in map(bytes, packets):
        # The kernel refuses a test run without a whole IP header.
        for size in range(34 if packet[12] == 8 else 54, len(packet)):
            outcome = lab.send("a", packet[:size])
            assert outcome.drop in (Drop.TRUNCATED, Drop.MALFORMED)
            assert lab.receive(vxlan(packet[:size])).delivered_to is None
    assert not lab.flows()


def test_tcp_without_l4_in_a_tunnel_is_dropped(lab: Lab) -> None:
    packet = Ether(src=t.mac("c"), dst=t.mac("b")) / IP(src=t.ip4("c"), dst=t.ip4("b")) / TCP()
    assert lab.receive(vxlan(packet)).delivered_to == "b"
    broken = packet.copy()
    broken[IP].len = 2000
    assert lab.receive(vxlan(broken)).drops == {("node", Drop.TRUNCATED): 1}
