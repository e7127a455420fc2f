"""Classic BPF on sockets (linux/filter.h): what does not concern a packet socket never
comes up to it."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

LOAD_WORD, LOAD_HALF, LOAD_BYTE, EQUAL, RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
_SO_ATTACH_FILTER = 26


def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; jumps count from the next one."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def attach(to: socket.socket, steps: Sequence[bytes]) -> None:
    """Before the socket is bound, so that nothing comes in unfiltered."""
    program = ctypes.create_string_buffer(b"".join(steps))
    where = struct.pack("@HP", len(steps), ctypes.addressof(program))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)
