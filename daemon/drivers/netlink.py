"""rtnetlink: messages, attributes and a blocking socket; the drivers' one door.

pyroute2 is not used: it needs 130 us to encode a link and 360 us for a request,
and its socket cannot be called inside a running event loop; 1,000 endpoints with
a dozen messages each have three seconds. Layouts: include/uapi/linux/netlink.h
and rtnetlink.h.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Message types.
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWQDISC, DELQDISC = 36, 37
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
_ERROR, _DONE = 2, 3

# Flags.
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
_DUMP_INTERRUPTED, _ACK_TLVS = 0x10, 0x200
_DUMP_TRIES = 5

_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_SO_RCVBUFFORCE = 33
_NESTED = 0x8000
_EXTACK_TEXT = 1
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
#: Acknowledgements of one batch must fit the receive buffer.
_BATCH = 128

IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index


class NetlinkError(OSError):
    """The kernel refused a request; `strerror` has its own words if it gave any."""


class Message(NamedTuple):
    """A request, and for a reply what the kernel sent."""

    type: int
    body: bytes
    flags: int = 0


def attribute(type: int, data: bytes) -> bytes:
    size = len(data) + 4
    return _ATTRIBUTE.pack(size, type) + data + bytes(-size & 3)


def text(type: int, value: str) -> bytes:
    return attribute(type, value.encode() + b"\0")


def u32(type: int, value: int) -> bytes:
    return attribute(type, struct.pack("=I", value))


def nested(type: int, *parts: bytes) -> bytes:
    return attribute(type | _NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of every attribute from `offset` on."""
    while offset + 4 <= len(data):
        size, type = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            return
        yield type & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def open_socket(groups: int = 0) -> socket.socket:
    """A rtnetlink socket of the calling thread's network namespace."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    made.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
    made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
    made.setsockopt(_SOL_NETLINK, _STRICT, 1)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 21)
    made.bind((0, groups))
    return made


def parse(data: bytes) -> Iterator[tuple[Message, int]]:
    """Messages of one datagram, with their sequence numbers."""
    offset = 0
    while offset + 16 <= len(data):
        size, type, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < 16:
            return
        yield Message(type, data[offset + 16 : offset + size], flags), sequence
        offset += (size + 3) & ~3


class Netlink:
    """Requests to one network namespace: the one the creating thread is in."""

    def __init__(self) -> None:
        self._socket = open_socket()
        self._sequence = itertools.count(1)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: Message) -> list[Message]:
        """Send all at once; answers the kernel's replies in order.

        The kernel handles every message, also those after one it refuses; the
        first refusal is raised when all are done.
        """
        replies: list[Message] = []
        for result in self.attempt(messages):
            if isinstance(result, NetlinkError):
                raise result
            replies.extend(result)
        return replies

    def attempt(self, messages: Sequence[Message]) -> list[list[Message] | NetlinkError]:
        """Like `request`, but answers for each message its replies or its error."""
        results: list[list[Message] | NetlinkError] = []
        for at in range(0, len(messages), _BATCH):
            results += self._exchange(messages[at : at + _BATCH])
        return results

    def _exchange(self, messages: Sequence[Message]) -> list[list[Message] | NetlinkError]:
        numbers = {next(self._sequence): place for place, _ in enumerate(messages)}
        results: list[list[Message] | NetlinkError] = [[] for _ in messages]
        parts: list[bytes] = []
        for sequence, (type, body, flags) in zip(numbers, messages, strict=True):
            size = 16 + len(body)
            parts.append(_HEADER.pack(size, type, flags | REQUEST | ACK, sequence, 0))
            parts.append(body + bytes(-size & 3))
        self._socket.send(b"".join(parts))
        waiting = set(numbers)
        while waiting:
            for reply, sequence in parse(self._socket.recv(1 << 18)):
                place = numbers.get(sequence)
                if place is None:
                    continue  # of a request that was given up
                if reply.type in (_ERROR, _DONE):
                    waiting.discard(sequence)
                    error = _error(reply)
                    if error is not None:
                        results[place] = error
                    continue
                result = results[place]
                if isinstance(result, list):
                    result.append(reply)
        return results

    def dump(self, type: int, body: bytes) -> list[Message]:
        """All objects of a kind, read again if they changed under the reading."""
        for _ in range(_DUMP_TRIES):
            replies = self.request(Message(type, body, DUMP))
            if not any(reply.flags & _DUMP_INTERRUPTED for reply in replies):
                return replies
        raise NetlinkError(errno.EAGAIN, "objects change faster than they can be listed")


def _error(reply: Message) -> NetlinkError | None:
    number = -int.from_bytes(reply.body[:4], "little", signed=True)
    if number == 0:
        return None
    words = ""
    if reply.flags & _ACK_TLVS:
        # _CAP_ACK: of the refused request only the header comes back.
        at = 4 + 16 if reply.type == _ERROR else 4
        words = next((string(d) for t, d in attributes(reply.body, at) if t == _EXTACK_TEXT), "")
    return NetlinkError(number, words or os.strerror(number))
