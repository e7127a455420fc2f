"""Frames endpoints send."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.bpf import topology as t

FAMILIES = (4, 6)
PORT = 40000


def same_bridge(source: str, target: str) -> bool:
    places = {**t.PLACES, **t.RIVALS}
    return places[source][1] == places[target][1]


def router_mac_of(name: str) -> str:
    return t.TWO_MAC if {**t.PLACES, **t.RIVALS}[name][1] == "far" else t.ONE_MAC


def l3(source: str, target: str, family: int, ttl: int = 64, **more: Any) -> Packet:
    """Ethernet and IP from one endpoint to another, by the router if need be."""
    dmac = t.mac(target) if same_bridge(source, target) else router_mac_of(source)
    return to(source, t.ip(target, family), dmac, ttl, **more)


def to(source: str, address: str, dmac: str = t.ONE_MAC, ttl: int = 64, **more: Any) -> Packet:
    """Ethernet and IP from an endpoint to any address."""
    eth = Ether(src=t.mac(source), dst=dmac)
    if ":" in address:
        return eth / IPv6(**{"src": t.ip6(source), "dst": address, "hlim": ttl, **more})
    return eth / IP(**{"src": t.ip4(source), "dst": address, "ttl": ttl, "id": 7, **more})


def payload(size: int) -> Packet:
    return Raw(bytes(i & 0xFF for i in range(size)))


def udp(
    source: str, target: str, family: int = 4, sport: int = PORT, dport: int = 5000, size: int = 32
) -> Packet:
    return l3(source, target, family) / UDP(sport=sport, dport=dport) / payload(size)


def tcp(
    source: str,
    target: str,
    flags: str,
    family: int = 4,
    seq: int = 1000,
    ack: int = 0,
    sport: int = PORT,
    dport: int = 80,
    size: int = 0,
) -> Packet:
    layer = TCP(sport=sport, dport=dport, flags=flags, seq=seq, ack=ack, window=1000)
    packet = l3(source, target, family) / layer
    return packet / payload(size) if size else packet


def echo(family: int = 4, id: int = 77, reply: bool = False, size: int = 24) -> Packet:
    if family == 4:
        return ICMP(type=0 if reply else 8, id=id, seq=1) / payload(size)
    kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
    return kind(id=id, seq=1, data=bytes(payload(size)))


def ping(source: str, target: str, family: int = 4, reply: bool = False, **more: Any) -> Packet:
    return l3(source, target, family) / echo(family, reply=reply, **more)


def checked(frame: bytes) -> Packet:
    """The frame taken apart; lengths and every checksum must be right."""
    packet = Ether(frame)
    again = packet.copy()
    for layer in (IP, UDP, TCP, ICMP):
        part = again.getlayer(layer)
        if part is not None:
            for name in ("chksum", "len"):
                if name in part.fields:
                    del part.fields[name]
    part = again.getlayer(IPv6)
    if part is not None:
        del part.fields["plen"]
        for name in ("cksum", "chksum"):
            if name in part.payload.fields:
                del part.payload.fields[name]
    assert bytes(again) == frame, f"\n{again!r}\n{packet!r}"
    return packet
