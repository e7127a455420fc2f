"""Asks every other VTEP whether it is there, and keeps what came of it.

The question is a VXLAN datagram of VNI PLUM_PROBE_VNI from an ordinary UDP socket;
the datapath of the node that is asked sends it back (stage PROBE of PIPELINE.md).
Received times are the kernel's: a busy event loop makes no underlay look slow.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from daemon.abi import PLUM_PROBE_VNI
from daemon.mesh.window import PeerState, Window
from daemon.model.base import Address

log = logging.getLogger(__name__)

PERIOD_S = 1.0
#: Of all probes of a node: with more peers each is asked less often.
MOST_PER_S = 200
VXLAN_PORT = 4789
_HEAD = b"\x08\0\0\0" + PLUM_PROBE_VNI.to_bytes(3, "big") + b"\0"
_BODY = struct.Struct("!8sQ16x")  # a secret of this prober's, sequence number; 32 bytes
_TIMESPEC = struct.Struct("@ll")
_SO_TIMESTAMPNS = 35  # linux/asm-generic/socket.h; Python has no name for it


class Prober:
    """`own`: the VTEP asked from, None while unknown; `peers`: VTEPs by node name."""

    def __init__(
        self, own: Callable[[], Address | None], peers: Callable[[], Mapping[str, Address]]
    ) -> None:
        self._own = own
        self._peers = peers
        self._windows: dict[str, Window] = {}
        self._names: dict[Address, str] = {}
        self._secret = random.randbytes(8)
        self._sequence = 0
        self._socket: socket.socket | None = None
        self._bound: Address | None = None

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._round()
        finally:
            self._close()

    def states(self) -> dict[str, PeerState]:
        now = time.monotonic()
        for window in self._windows.values():
            window.expire(now)
        return {name: window.state() for name, window in sorted(self._windows.items())}

    def unreachable(self) -> list[str]:
        return [name for name, state in self.states().items() if not state.reachable]

    async def _round(self) -> None:
        """One question for each peer, spread over the period."""
        peers = dict(self._peers())
        for gone in self._windows.keys() - peers.keys():
            del self._windows[gone]
        self._names = {address: name for name, address in peers.items()}
        period_s = max(PERIOD_S, len(peers) / MOST_PER_S)
        if not self._ready() or not peers:
            await asyncio.sleep(period_s)
            return
        pause_s = period_s / len(peers)
        for name, address in random.sample(sorted(peers.items()), len(peers)):
            self._ask(name, address)
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))

    def _ready(self) -> bool:
        own = self._own()
        if own != self._bound:
            self._close()
        if self._socket is None and own is not None:
            self._open(own)
        return self._socket is not None

    def _open(self, own: Address) -> None:
        family = socket.AF_INET if own.version == 4 else socket.AF_INET6
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            opened.bind((str(own), 0))
        except OSError as error:  # the address is not on this node, or not yet
            opened.close()
            log.debug("mesh: no socket", extra={"step": "mesh", "error": str(error)})
            return
        self._socket, self._bound = opened, own
        asyncio.get_running_loop().add_reader(opened, self._hear)

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = self._bound = None

    def _ask(self, name: str, address: Address) -> None:
        window = self._windows.setdefault(name, Window())
        now = time.monotonic()
        window.expire(now)
        self._sequence += 1
        window.sent(self._sequence, now)
        assert self._socket is not None
        with suppress(OSError):  # no route, a full queue: it counts as lost
            message = _HEAD + _BODY.pack(self._secret, self._sequence)
            self._socket.sendto(message, (str(address), VXLAN_PORT))

    def _hear(self) -> None:
        assert self._socket is not None
        with suppress(BlockingIOError, ConnectionError):
            while True:
                data, extra, _, source = self._socket.recvmsg(128, 64)
                self._take(data, source[0], time.monotonic() - _waited_s(extra))

    def _take(self, data: bytes, source: str, now: float) -> None:
        if len(data) != len(_HEAD) + _BODY.size or not data.startswith(_HEAD):
            return
        secret, sequence = _BODY.unpack_from(data, len(_HEAD))
        name = self._names.get(ip_address(source.partition("%")[0]))
        if secret == self._secret and name in self._windows:
            self._windows[name].answered(sequence, now)


def _waited_s(extra: list[tuple[int, int, bytes]]) -> float:
    """How long the message lay in the socket, by the kernel's stamp.

    The stamp is of the wall clock, which somebody may just have set: then 0.
    """
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            waited = time.time() - float(seconds + nanoseconds / 1e9)
            return waited if 0 <= waited < 1 else 0.0
    return 0.0
