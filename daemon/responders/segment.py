"""TCP segments and UDP datagrams between a balancer's address and a backend. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import IPv4Address

from daemon.model.base import Address
from daemon.responders.frames import ETH_IP4, ETH_IP6, checksum, parse

PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMP6 = 1, 6, 17, 58

_ETH = struct.Struct("!6s6sH")
_IP4 = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
#: Largest segment we take, in bytes: fits the smallest MTU of IPv6.
MSS = 1220
_MSS_OPTION = struct.pack("!BBH", 2, 4, MSS)
_UNREACHABLE = {PROTO_ICMP: 3, PROTO_ICMP6: 1}


class Flag(IntFlag):
    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


@dataclass(frozen=True, slots=True)
class Ends:
    """Our side is the balancer's address and MAC, the other the backend's."""

    mac: bytes
    peer_mac: bytes
    address: Address
    peer: Address
    port: int
    peer_port: int


@dataclass(frozen=True, slots=True)
class Segment:
    seq: int
    ack: int
    flags: Flag
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Said:
    """The payload of a datagram."""

    data: bytes


class Unreachable:
    """The backend's own stack says that nobody listens."""


Heard = Segment | Said | Unreachable


def tcp_frame(ends: Ends, segment: Segment) -> bytes:
    options = _MSS_OPTION if segment.flags & Flag.SYN else b""
    offset = (_TCP.size + len(options)) << 2
    fields = (ends.port, ends.peer_port, segment.seq, segment.ack, offset, segment.flags, 0xFFFF)
    bare = _TCP.pack(*fields, 0, 0) + options + segment.data
    total = checksum(_pseudo(ends, len(bare), PROTO_TCP) + bare)
    return _frame(ends, PROTO_TCP, _TCP.pack(*fields, total, 0) + options + segment.data)


def udp_frame(ends: Ends, data: bytes) -> bytes:
    length = _UDP.size + len(data)
    bare = _UDP.pack(ends.port, ends.peer_port, length, 0) + data
    total = checksum(_pseudo(ends, length, PROTO_UDP) + bare) or 0xFFFF
    head = _UDP.pack(ends.port, ends.peer_port, length, total)
    return _frame(ends, PROTO_UDP, head + data)


def heard(ends: Ends, frame: bytes) -> Heard | None:
    """What a frame says to us; None: it is not for us. Checksums may be left to a
    device that is none, so they are not looked at."""
    packet = parse(frame)
    if packet is None or (packet.src, packet.dst) != (ends.peer, ends.address):
        return None
    payload = packet.payload
    ports = struct.pack("!HH", ends.peer_port, ends.port)
    if packet.protocol == PROTO_TCP and payload[:4] == ports and len(payload) >= _TCP.size:
        _, _, seq, ack, offset, flags, *_ = _TCP.unpack_from(payload)
        return Segment(seq, ack, Flag(flags & 0x1F), payload[(offset >> 4) * 4 :])
    if packet.protocol == PROTO_UDP and payload[:4] == ports:
        return Said(payload[_UDP.size :])
    quoted = struct.pack("!HH", ends.port, ends.peer_port)
    header = 40 if packet.protocol == PROTO_ICMP6 else 20
    if payload[:1] == bytes([_UNREACHABLE.get(packet.protocol, 0)]):
        at = 8 + header  # our packets have no options
        return Unreachable() if payload[at : at + 4] == quoted else None
    return None


def _pseudo(ends: Ends, length: int, protocol: int) -> bytes:
    form = "!HH" if isinstance(ends.peer, IPv4Address) else "!II"
    parts = (protocol, length) if form == "!HH" else (length, protocol)
    return ends.address.packed + ends.peer.packed + struct.pack(form, *parts)


def _frame(ends: Ends, protocol: int, payload: bytes) -> bytes:
    src, dst = ends.address.packed, ends.peer.packed
    if isinstance(ends.peer, IPv4Address):
        fields = (0x45, 0, _IP4.size + len(payload), 0, 0x4000, 64, protocol)
        total = checksum(_IP4.pack(*fields, 0, src, dst))
        head, kind = _IP4.pack(*fields, total, src, dst), ETH_IP4
    else:
        head = _IP6.pack(6 << 28, len(payload), protocol, 64, src, dst)
        kind = ETH_IP6
    return _ETH.pack(ends.peer_mac, ends.mac, kind) + head + payload
