"""DHCPv4 server of one endpoint (RFC 2131, 2132, 3397, 3442). Pure.

The address is the endpoint's already, so there is no lease to keep: the same
question gets the same answer from any daemon at any time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

from daemon.responders import names
from daemon.responders.facts import Facts
from daemon.responders.frames import BROADCAST, build4, datagram, parse

CLIENT_PORT = 68
SERVER_PORT = 67
MAGIC = b"\x63\x82\x53\x63"
MIN_MESSAGE = 300  # BOOTP's size; shorter answers are dropped by some clients
DEFAULT_MESSAGE = 576 - 28  # what every client must take, less IP and UDP
FLAG_BROADCAST = 0x8000
ANY = IPv4Address(0)
ALL_HOSTS = IPv4Address("255.255.255.255")

_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")


class MessageType(IntEnum):
    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    PAD = 0
    MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN_NAME = 15
    MTU = 26
    BROADCAST = 28
    REQUESTED = 50
    LEASE = 51
    TYPE = 53
    SERVER_ID = 54
    MAX_SIZE = 57
    T1 = 58
    T2 = 59
    CLIENT_ID = 61
    SEARCH = 119
    ROUTES = 121
    END = 255


@dataclass(frozen=True, slots=True)
class Request:
    type: MessageType
    xid: int
    secs: int
    flags: int
    ciaddr: IPv4Address
    chaddr: bytes
    options: Mapping[int, bytes]

    def address(self, option: Option) -> IPv4Address | None:
        value = self.options.get(option)
        return IPv4Address(value) if value is not None and len(value) == 4 else None


def answer(frame: bytes, facts: Facts) -> bytes | None:
    """The frame to send back through the endpoint's device; None: say nothing."""
    outer = parse(frame)
    udp = datagram(outer) if outer else None
    if outer is None or udp is None or outer.src_mac != facts.mac or not facts.addresses4:
        return None
    if (udp.sport, udp.dport) != (CLIENT_PORT, SERVER_PORT):
        return None
    request = decode(udp.payload)
    if request is None or request.chaddr != facts.mac:
        return None
    verdict = _decide(request, facts)
    return _build(verdict, request, facts) if verdict else None


def decode(message: bytes) -> Request | None:
    """A client's message; None if it is no direct DHCP request over Ethernet."""
    if len(message) < _BOOTP.size:
        return None
    op, htype, hlen, _, xid, secs, flags, ciaddr, _, _, giaddr, chaddr, _, _, magic = (
        _BOOTP.unpack_from(message)
    )
    if (op, htype, hlen, magic) != (1, 1, 6, MAGIC) or any(giaddr):
        return None
    options = _decode_options(message[_BOOTP.size :])
    if options is None:
        return None
    kind = options.get(Option.TYPE, b"")
    if len(kind) != 1 or kind[0] not in MessageType.__members__.values():
        return None
    return Request(MessageType(kind[0]), xid, secs, flags, IPv4Address(ciaddr), chaddr[:6], options)


def _decode_options(data: bytes) -> dict[int, bytes] | None:
    options: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != Option.END:
        code = data[at]
        if code == Option.PAD:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return None
        value = data[at + 2 : at + 2 + data[at + 1]]
        options[code] = options.get(code, b"") + value  # RFC 3396: parts are joined
        at += 2 + len(value)
    return options


def _decide(request: Request, facts: Facts) -> MessageType | None:
    own = facts.addresses4[0].ip
    server = request.address(Option.SERVER_ID)
    wanted = request.address(Option.REQUESTED)
    match request.type:
        case MessageType.DISCOVER:
            return MessageType.OFFER
        case MessageType.INFORM:
            return MessageType.ACK if request.ciaddr == own else None
        case MessageType.REQUEST if server is not None and server != facts.server4:
            return None  # the client chose another server
        case MessageType.REQUEST:
            claimed = wanted if wanted is not None else request.ciaddr
            return MessageType.ACK if claimed == own else MessageType.NAK
    return None  # release and decline change nothing, the rest is a server's


def _build(verdict: MessageType, request: Request, facts: Facts) -> bytes:
    own = facts.addresses4[0].ip
    leased = verdict != MessageType.NAK and request.type != MessageType.INFORM
    message = _BOOTP.pack(
        2,
        1,
        6,
        0,
        request.xid,
        0,
        request.flags,
        (request.ciaddr if verdict == MessageType.ACK else ANY).packed,
        (own if leased else ANY).packed,
        (facts.server4 if verdict != MessageType.NAK else ANY).packed,
        ANY.packed,
        request.chaddr,
        b"",
        b"",
        MAGIC,
    )
    limit = max(_max_message(request, facts), DEFAULT_MESSAGE) - len(message)
    message += _pack_options(_options(verdict, request, facts), limit)
    message = message.ljust(MIN_MESSAGE, b"\0")
    mac, address = _destination(verdict, request, facts)
    return build4(
        (facts.server_mac, mac), (facts.server4, address), (SERVER_PORT, CLIENT_PORT), message
    )


def _destination(verdict: MessageType, request: Request, facts: Facts) -> tuple[bytes, IPv4Address]:
    """RFC 2131, 4.1."""
    if verdict == MessageType.NAK:
        return BROADCAST, ALL_HOSTS
    if request.ciaddr != ANY:
        return facts.mac, request.ciaddr
    if request.flags & FLAG_BROADCAST:
        return BROADCAST, ALL_HOSTS
    return facts.mac, facts.addresses4[0].ip


def _max_message(request: Request, facts: Facts) -> int:
    size = request.options.get(Option.MAX_SIZE, b"")
    return min(int.from_bytes(size), facts.mtu_bytes) - 28 if len(size) == 2 else DEFAULT_MESSAGE


def _options(verdict: MessageType, request: Request, facts: Facts) -> Iterator[tuple[int, bytes]]:
    """Most important first: the last ones are left out when the message is full."""
    yield Option.TYPE, bytes([verdict])
    yield Option.SERVER_ID, facts.server4.packed
    if Option.CLIENT_ID in request.options:  # RFC 6842
        yield Option.CLIENT_ID, request.options[Option.CLIENT_ID]
    if verdict == MessageType.NAK:
        return
    if request.type != MessageType.INFORM:
        yield Option.LEASE, facts.lease_s.to_bytes(4)
        yield Option.T1, (facts.lease_s // 2).to_bytes(4)
        yield Option.T2, (facts.lease_s * 7 // 8).to_bytes(4)
    net = facts.addresses4[0].network
    yield Option.MASK, net.netmask.packed
    if facts.routers4:
        yield Option.ROUTER, b"".join(router.packed for router in facts.routers4)
    yield Option.MTU, min(facts.mtu_bytes, 0xFFFF).to_bytes(2)
    if facts.dns4:
        yield Option.DNS, b"".join(address.packed for address in facts.dns4)
    if facts.routes4:
        yield Option.ROUTES, _classless_routes(facts)
    yield Option.HOST_NAME, facts.name.encode("ascii", "replace")[:63]
    if facts.search:
        yield Option.DOMAIN_NAME, facts.search[0].encode("ascii", "replace")[:253]
    if search := names.encode(facts.search):
        yield Option.SEARCH, search
    if net.prefixlen < 31:
        yield Option.BROADCAST, net.broadcast_address.packed
    yield from facts.options4


def _classless_routes(facts: Facts) -> bytes:
    """RFC 3442. A client that reads it ignores the router option: default included."""
    routes = [(route.to, route.via) for route in facts.routes4]
    default = IPv4Network("0.0.0.0/0")
    if facts.routers4 and all(to != default for to, _ in routes):
        routes.append((default, facts.routers4[0]))
    return b"".join(
        bytes([to.prefixlen]) + to.network_address.packed[: (to.prefixlen + 7) // 8] + via.packed
        for to, via in routes
    )


def _pack_options(options: Iterator[tuple[int, bytes]], limit: int) -> bytes:
    packed = b""
    for code, value in options:
        parts = [value[at : at + 255] for at in range(0, len(value), 255)]  # RFC 3396
        wire = b"".join(bytes([code, len(part)]) + part for part in parts)
        if len(packed) + len(wire) < limit:  # one byte stays for the end mark
            packed += wire
    return packed + bytes([Option.END])
