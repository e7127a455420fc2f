"""What is said of neighbours on a gateway's devices outside, with the tag it was said under."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

from daemon.drivers.socket_filter import EQUAL, LOAD_BYTE, LOAD_HALF, RETURN, attach, step

_ETH_ALL, _ETH_ARP, _ETH_IP6, _ICMP6, _ADVERT = 3, 0x0806, 0x86DD, 58, 136
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_AUXDATA = struct.Struct("=IIIHHHH")
_TAGGED = 1 << 4  # TP_STATUS_VLAN_VALID
#: ARP, and neighbour advertisements: a busy gateway's traffic must not come up here.
_FILTER = (
    step(LOAD_HALF, 12),
    step(EQUAL, _ETH_ARP, 5, 0),
    step(EQUAL, _ETH_IP6, 0, 5),
    step(LOAD_BYTE, 20),
    step(EQUAL, _ICMP6, 0, 3),
    step(LOAD_BYTE, 54),
    step(EQUAL, _ADVERT, 0, 1),
    step(RETURN, 256),
    step(RETURN, 0),
)


class NeighbourListener:
    """ARP and neighbour advertisements of some devices, with their tags."""

    def __init__(self, hear: Callable[[int, int, bytes], None]) -> None:
        self._hear = hear
        self._sockets: dict[int, socket.socket] = {}

    def listen(self, ifindexes: Iterable[int]) -> None:
        """To these devices and no others."""
        wanted = set(ifindexes)
        for index in self._sockets.keys() - wanted:
            self._close(index)
        for index in wanted - self._sockets.keys():
            with suppress(OSError):  # the device went away: the next cycle knows
                self._open(index)

    def close(self) -> None:
        self.listen(())

    def _close(self, index: int) -> None:
        gone = self._sockets.pop(index)
        asyncio.get_running_loop().remove_reader(gone)
        gone.close()

    def _open(self, index: int) -> None:
        # Nothing arrives before the filter is on: protocol 0 receives nothing (packet(7)).
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        opened = socket.socket(socket.AF_PACKET, kind, 0)
        attach(opened, _FILTER)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.bind((socket.if_indextoname(index), _ETH_ALL))
        self._sockets[index] = opened
        asyncio.get_running_loop().add_reader(opened, self._read, index, opened)

    def _read(self, index: int, opened: socket.socket) -> None:
        with suppress(OSError):  # nothing more, or the device is down
            while True:
                frame, extra, _, source = opened.recvmsg(256, 64)
                if source[2] != socket.PACKET_OUTGOING:
                    self._hear(index, _tag(extra), frame)


def _tag(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in extra:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, _ = _AUXDATA.unpack(data[: _AUXDATA.size])
            return tag & 0xFFF if status & _TAGGED else 0
    return 0
