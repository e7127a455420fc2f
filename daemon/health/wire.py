"""Frames into and out of a backend's device, past the datapath.

A frame sent on the host's end of a veth or on a tap comes out in the workload; a packet
socket for all protocols sees what the workload sends before our program at tc ingress
does (net/core/dev.c, __netif_receive_skb_core).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

from daemon.drivers.socket_filter import (
    EQUAL,
    LOAD_BYTE,
    LOAD_HALF,
    LOAD_WORD,
    RETURN,
    attach,
    step,
)
from daemon.responders.segment import PROTO_ICMP, PROTO_ICMP6, Ends

_ETH_P_ALL = 3
_MAX_FRAME = 1 << 17


class Wire:
    """A Line of a packet socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, frame)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, _MAX_FRAME)


@asynccontextmanager
async def wire(ifindex: int, ends: Ends) -> AsyncGenerator[Wire]:
    """Raises OSError when there is no such device."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        attach(sock, answers(ends))  # before the first frame can come
        sock.bind((socket.if_indextoname(ifindex), _ETH_P_ALL))
        yield Wire(sock)
    finally:
        await asyncio.to_thread(sock.close)  # waits until no CPU looks at it any more


def answers(ends: Ends) -> list[bytes]:
    """Passes frames of the backend to our address: to our port, or ICMP."""
    if isinstance(ends.address, IPv4Address):
        ethertype, protocol, at, ports, icmp = 0x0800, 23, 30, 36, PROTO_ICMP
    else:
        ethertype, protocol, at, ports, icmp = 0x86DD, 20, 38, 56, PROTO_ICMP6
    words = struct.unpack(f"!{len(ends.address.packed) // 4}I", ends.address.packed)
    tests = [(LOAD_HALF, 12, ethertype)]
    tests += [(LOAD_WORD, at + 4 * i, word) for i, word in enumerate(words)]
    steps: list[bytes] = []
    left = 2 * len(tests)  # instructions of these tests
    for load, offset, value in tests:
        left -= 2
        steps += [step(load, offset), step(EQUAL, value, 0, left + 5)]
    return [
        *steps,
        step(LOAD_BYTE, protocol),
        step(EQUAL, icmp, 2, 0),
        step(LOAD_HALF, ports),
        step(EQUAL, ends.port, 0, 1),
        step(RETURN, _MAX_FRAME),
        step(RETURN, 0),
    ]
