"""Ethernet, IPv4, IPv6 and UDP: take a request apart, put an answer together. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

BROADCAST = b"\xff" * 6
ETH_IP4 = 0x0800
ETH_IP6 = 0x86DD
PROTO_UDP = 17
PROTO_ICMP6 = 58

_ETH = struct.Struct("!6s6sH")
_IP4 = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_UDP = struct.Struct("!HHHH")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's Ethernet and IP layers; `payload` is what the IP length covers."""

    dst_mac: bytes
    src_mac: bytes
    src: IPv4Address | IPv6Address
    dst: IPv4Address | IPv6Address
    protocol: int
    hops: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Datagram:
    sport: int
    dport: int
    payload: bytes


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071) of bytes."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def parse(frame: bytes) -> Frame | None:
    """Ethernet with an unfragmented IPv4 or IPv6 packet without extension headers."""
    if len(frame) < _ETH.size:
        return None
    dst_mac, src_mac, ethertype = _ETH.unpack_from(frame)
    packet = frame[_ETH.size :]
    if ethertype == ETH_IP4:
        return _parse4(dst_mac, src_mac, packet)
    if ethertype == ETH_IP6:
        return _parse6(dst_mac, src_mac, packet)
    return None


def _parse4(dst_mac: bytes, src_mac: bytes, packet: bytes) -> Frame | None:
    if len(packet) < _IP4.size:
        return None
    first, _, length, _, fragment, ttl, protocol, _, src, dst = _IP4.unpack_from(packet)
    header = (first & 15) * 4
    if first >> 4 != 4 or header < _IP4.size or not header <= length <= len(packet):
        return None
    if fragment & 0x3FFF:  # more fragments, or not the first
        return None
    return Frame(
        dst_mac, src_mac, IPv4Address(src), IPv4Address(dst), protocol, ttl, packet[header:length]
    )


def _parse6(dst_mac: bytes, src_mac: bytes, packet: bytes) -> Frame | None:
    if len(packet) < _IP6.size:
        return None
    first, length, protocol, hops, src, dst = _IP6.unpack_from(packet)
    end = _IP6.size + length
    if first >> 28 != 6 or end > len(packet):
        return None
    return Frame(
        dst_mac,
        src_mac,
        IPv6Address(src),
        IPv6Address(dst),
        protocol,
        hops,
        packet[_IP6.size : end],
    )


def datagram(frame: Frame) -> Datagram | None:
    """The UDP datagram of a frame. Its checksum may be left to the device: not checked."""
    if frame.protocol != PROTO_UDP or len(frame.payload) < _UDP.size:
        return None
    sport, dport, length, _ = _UDP.unpack_from(frame.payload)
    if not _UDP.size <= length <= len(frame.payload):
        return None
    return Datagram(sport, dport, frame.payload[_UDP.size : length])


def build4(
    macs: tuple[bytes, bytes],
    addresses: tuple[IPv4Address, IPv4Address],
    ports: tuple[int, int],
    payload: bytes,
) -> bytes:
    """A UDP frame; each pair is (source, destination)."""
    src, dst = (address.packed for address in addresses)
    length = _UDP.size + len(payload)
    udp = _udp(src + dst + struct.pack("!HH", PROTO_UDP, length), ports, payload)
    fields = (0x45, 0, _IP4.size + length, 0, 0x4000, 64, PROTO_UDP)
    header = _IP4.pack(*fields, 0, src, dst)
    header = _IP4.pack(*fields, checksum(header), src, dst)
    return _ETH.pack(macs[1], macs[0], ETH_IP4) + header + udp


def build6(
    macs: tuple[bytes, bytes],
    addresses: tuple[IPv6Address, IPv6Address],
    ports: tuple[int, int],
    payload: bytes,
) -> bytes:
    """A UDP frame; each pair is (source, destination)."""
    pseudo = pseudo6(addresses, _UDP.size + len(payload), PROTO_UDP)
    return _frame6(macs, addresses, PROTO_UDP, _udp(pseudo, ports, payload))


def build_icmp6(
    macs: tuple[bytes, bytes], addresses: tuple[IPv6Address, IPv6Address], message: bytes
) -> bytes:
    """An ICMPv6 frame of hop limit 255; `message` has a zero checksum field."""
    total = checksum(pseudo6(addresses, len(message), PROTO_ICMP6) + message)
    body = message[:2] + struct.pack("!H", total) + message[4:]
    return _frame6(macs, addresses, PROTO_ICMP6, body)


def pseudo6(addresses: tuple[IPv6Address, IPv6Address], length: int, protocol: int) -> bytes:
    """Pseudo-header of upper-layer checksums (RFC 8200, 8.1)."""
    return addresses[0].packed + addresses[1].packed + struct.pack("!II", length, protocol)


def _frame6(
    macs: tuple[bytes, bytes],
    addresses: tuple[IPv6Address, IPv6Address],
    protocol: int,
    payload: bytes,
) -> bytes:
    header = _IP6.pack(
        6 << 28, len(payload), protocol, 255, addresses[0].packed, addresses[1].packed
    )
    return _ETH.pack(macs[1], macs[0], ETH_IP6) + header + payload


def _udp(pseudo: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    length = _UDP.size + len(payload)
    bare = _UDP.pack(*ports, length, 0) + payload
    return _UDP.pack(*ports, length, checksum(pseudo + bare) or 0xFFFF) + payload
