"""Who is at the other end of a connection."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

READERS = "plum"
WRITERS = "plum-admin"

_UCRED = struct.Struct("iII")  # pid, uid, gid: unix(7), SO_PEERCRED


@dataclass(frozen=True, slots=True)
class Peer:
    """Credentials the kernel recorded when the peer connected."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return cls(*_UCRED.unpack(raw))


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """The other end of a TLS connection."""

    node: str | None  # of the zone, by its certificate; None: it showed none
    address: str


@dataclass(frozen=True, slots=True)
class User:
    """A name for the log, and the names of all groups the user is in now."""

    name: str
    groups: frozenset[str]


def look_up(peer: Peer) -> User:
    """Ask the system's user database; it may block for as long as that takes."""
    try:
        name = pwd.getpwuid(peer.uid).pw_name
        numbers = {peer.gid, *os.getgrouplist(name, peer.gid)}
    except KeyError:
        name, numbers = str(peer.uid), {peer.gid}
    return User(name, frozenset(filter(None, map(_group_name, numbers))))


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""
