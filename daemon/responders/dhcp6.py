"""DHCPv6 server of one endpoint (RFC 8415, 3646). Pure.

As in DHCPv4 the addresses are the endpoint's already; nothing is remembered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address

from daemon.model.mac import link_local
from daemon.responders import names
from daemon.responders.facts import Facts
from daemon.responders.frames import build6, datagram, parse

CLIENT_PORT = 546
SERVER_PORT = 547
ALL_SERVERS = IPv6Address("ff02::1:2")
MAX_MESSAGE = 1280 - 48  # what every IPv6 link carries, less IP and UDP


class MessageType(IntEnum):
    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    INFORMATION_REQUEST = 11


class Option(IntEnum):
    CLIENT_ID = 1
    SERVER_ID = 2
    IA_NA = 3
    IA_TA = 4
    IA_ADDR = 5
    PREFERENCE = 7
    STATUS = 13
    RAPID_COMMIT = 14
    DNS = 23
    SEARCH = 24
    IA_PD = 25
    REFRESH = 32


class Status(IntEnum):
    SUCCESS = 0
    NO_ADDRESSES = 2
    NOT_ON_LINK = 4
    NO_PREFIX = 6


_TO_THIS_SERVER = {
    MessageType.REQUEST,
    MessageType.RENEW,
    MessageType.RELEASE,
    MessageType.DECLINE,
}
_TO_ANY_SERVER = {MessageType.SOLICIT, MessageType.CONFIRM, MessageType.REBIND}

Options = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    type: MessageType
    xid: bytes
    options: Options

    def first(self, option: Option) -> bytes | None:
        return next((value for code, value in self.options if code == option), None)

    def every(self, option: Option) -> list[bytes]:
        return [value for code, value in self.options if code == option]


def answer(frame: bytes, facts: Facts) -> bytes | None:
    """The frame to send back through the endpoint's device; None: say nothing."""
    outer = parse(frame)
    udp = datagram(outer) if outer else None
    if outer is None or udp is None or outer.src_mac != facts.mac:
        return None
    if not isinstance(outer.src, IPv6Address) or not outer.src.is_link_local:
        return None
    if outer.dst != ALL_SERVERS or udp.dport != SERVER_PORT:
        return None  # no unicast option is ever given (RFC 8415, 18.4)
    request = decode(udp.payload)
    reply = _reply(request, facts) if request else None
    if reply is None or len(reply) > MAX_MESSAGE:
        return None
    mac = facts.server_mac
    return build6(
        (mac, facts.mac), (link_local(mac.hex()), outer.src), (SERVER_PORT, udp.sport), reply
    )


def server_id(facts: Facts) -> bytes:
    """DUID-LL (RFC 8415, 11.4) of the bridge's server."""
    return struct.pack("!HH", 3, 1) + facts.server_mac


def decode(message: bytes) -> Request | None:
    """A client's message; None if malformed or not a client's."""
    if len(message) < 4 or message[0] not in MessageType.__members__.values():
        return None
    options = _decode_options(message[4:])
    return Request(MessageType(message[0]), message[1:4], options) if options is not None else None


def _decode_options(data: bytes) -> Options | None:
    options: Options = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            return None
        code, length = struct.unpack_from("!HH", data, at)
        if at + 4 + length > len(data):
            return None
        options.append((code, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return options


def _reply(request: Request, facts: Facts) -> bytes | None:
    client, server = request.first(Option.CLIENT_ID), request.first(Option.SERVER_ID)
    if client is not None and not 3 <= len(client) <= 130:
        return None
    if client is None and request.type != MessageType.INFORMATION_REQUEST:
        return None
    if request.type in _TO_THIS_SERVER and server != server_id(facts):
        return None
    if request.type in _TO_ANY_SERVER and server is not None:
        return None
    if server is not None and server != server_id(facts):
        return None
    body = _body(request, facts)
    if body is None:
        return None
    rapid = request.first(Option.RAPID_COMMIT) is not None
    kind = MessageType.REPLY
    if request.type == MessageType.SOLICIT:
        if rapid:
            body += _option(Option.RAPID_COMMIT, b"")
        else:
            kind = MessageType.ADVERTISE
            body += _option(Option.PREFERENCE, b"\xff")  # spares the client its wait
    head = bytes([kind]) + request.xid
    if client is not None:
        head += _option(Option.CLIENT_ID, client)
    return head + _option(Option.SERVER_ID, server_id(facts)) + body


def _body(request: Request, facts: Facts) -> bytes | None:
    match request.type:
        case MessageType.SOLICIT | MessageType.REQUEST | MessageType.RENEW | MessageType.REBIND:
            return _associations(request, facts) + _settings(facts)
        case MessageType.CONFIRM:
            return _confirm(request, facts)
        case MessageType.RELEASE | MessageType.DECLINE:
            return _status(Status.SUCCESS, "")
        case MessageType.INFORMATION_REQUEST:
            if request.first(Option.IA_NA) is not None:
                return None
            return _settings(facts) + _option(Option.REFRESH, max(600, facts.lease_s).to_bytes(4))
    return None


def _associations(request: Request, facts: Facts) -> bytes:
    """All addresses go to the first IA_NA; there is nothing for another."""
    body = b""
    for number, value in enumerate(request.every(Option.IA_NA)):
        if len(value) >= 12:
            body += _association(value, facts, first=number == 0)
    for value in request.every(Option.IA_TA):
        if len(value) >= 4:
            refusal = _status(Status.NO_ADDRESSES, "no temporary addresses")
            body += _option(Option.IA_TA, value[:4] + refusal)
    for value in request.every(Option.IA_PD):
        if len(value) >= 12:
            refusal = _status(Status.NO_PREFIX, "no prefixes to delegate")
            body += _option(Option.IA_PD, value[:4] + bytes(8) + refusal)
    return body


def _association(value: bytes, facts: Facts, *, first: bool) -> bytes:
    own = [face.ip for face in facts.addresses6] if first else []
    foreign = [address for address in _addresses(value[12:]) if address not in own]
    lease = facts.lease_s
    inner = b"".join(_address(address, lease * 7 // 8, lease) for address in own)
    inner += b"".join(_address(address, 0, 0) for address in dict.fromkeys(foreign))
    if not own:
        inner += _status(Status.NO_ADDRESSES, "the endpoint has no further address")
    times = struct.pack("!II", lease // 2, lease * 4 // 5) if own else bytes(8)
    return _option(Option.IA_NA, value[:4] + times + inner)


def _confirm(request: Request, facts: Facts) -> bytes | None:
    claimed = [
        address
        for value in request.every(Option.IA_NA)
        if len(value) >= 12
        for address in _addresses(value[12:])
    ]
    if not claimed:
        return None
    own = {face.ip for face in facts.addresses6}
    if own.issuperset(claimed):
        return _status(Status.SUCCESS, "")
    return _status(Status.NOT_ON_LINK, "not an address of this endpoint")


def _settings(facts: Facts) -> bytes:
    body = b""
    if facts.dns6:
        body += _option(Option.DNS, b"".join(address.packed for address in facts.dns6))
    if search := names.encode(facts.search):
        body += _option(Option.SEARCH, search)
    return body + b"".join(_option(code, value) for code, value in facts.options6)


def _addresses(options: bytes) -> list[IPv6Address]:
    return [
        IPv6Address(value[:16])
        for code, value in _decode_options(options) or []
        if code == Option.IA_ADDR and len(value) >= 24
    ]


def _address(address: IPv6Address, preferred_s: int, valid_s: int) -> bytes:
    return _option(Option.IA_ADDR, address.packed + struct.pack("!II", preferred_s, valid_s))


def _status(code: Status, text: str) -> bytes:
    return _option(Option.STATUS, struct.pack("!H", code) + text.encode())


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value
