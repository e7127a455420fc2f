"""Asks gateways whether they serve an external network, many times a second.

The question is the mesh's (`prober`), with the network's number in its body: the
datapath of the gateway sends it back only while its own device on that network works.
An edge that hears nothing takes another gateway for its connections; a gateway that
hears nothing of another one answers for its addresses as well.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from daemon.abi import PLUM_PROBE_VNI
from daemon.mesh.prober import VXLAN_PORT
from daemon.model.base import Address

PERIOD_S = 0.1
#: Without an answer for so long a gateway is not used. Three questions fit.
SILENCE_S = 0.35
_HEAD = b"\x08\0\0\0" + PLUM_PROBE_VNI.to_bytes(3, "big") + b"\0"
_BODY = struct.Struct("!8sQI12x")  # a secret of ours, when it was sent (ns), the network's VNI

#: External network and node of a gateway -> the network's VNI and the gateway's VTEP.
Gateways = Mapping[tuple[str, str], tuple[int, Address]]
Down = frozenset[tuple[str, str]]


class GatewayProber:
    """`own`: the VTEP asked from; `gateways`: whom to ask; `tell`: hears of every change."""

    def __init__(
        self,
        own: Callable[[], Address | None],
        gateways: Callable[[], Gateways],
        tell: Callable[[Down], None],
    ) -> None:
        self._own = own
        self._gateways = gateways
        self._tell = tell
        self._heard: dict[tuple[str, str], float] = {}
        self._names: dict[tuple[Address, int], tuple[str, str]] = {}
        self._told: Down = frozenset()
        self._secret = random.randbytes(8)
        self._socket: socket.socket | None = None
        self._bound: Address | None = None

    async def run(self) -> None:
        """Until cancelled."""
        last = time.monotonic()
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                now = time.monotonic()
                self._round(now, late=now - last > 2 * PERIOD_S)
                last = now
        finally:
            self._close()

    def _round(self, now: float, *, late: bool) -> None:
        """`late`: we were held up ourselves, and no gateway is to blame for its silence."""
        gateways = self._gateways()
        self._heard = {
            key: now if late else self._heard.get(key, now)  # a new one is believed in
            for key in gateways
        }
        self._names = {(vtep, vni): key for key, (vni, vtep) in gateways.items()}
        if gateways and self._ready():
            for vni, vtep in gateways.values():
                self._ask(vni, vtep)
        down = frozenset(key for key, heard in self._heard.items() if now - heard > SILENCE_S)
        if down != self._told:
            self._told = down
            self._tell(down)

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
            opened.bind((str(own), 0))
        except OSError:  # the address is not on this node, or not yet
            opened.close()
            return
        self._socket, self._bound = opened, own
        asyncio.get_running_loop().add_reader(opened, self._hear)

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        self._socket = self._bound = None

    def _ask(self, vni: int, vtep: Address) -> None:
        assert self._socket is not None
        message = _HEAD + _BODY.pack(self._secret, time.monotonic_ns(), vni)
        with suppress(OSError):  # no route, a full queue: as if it were lost
            self._socket.sendto(message, (str(vtep), VXLAN_PORT))

    def _hear(self) -> None:
        assert self._socket is not None
        with suppress(BlockingIOError, ConnectionError):
            while True:
                data, source = self._socket.recvfrom(128)
                self._take(data, ip_address(source[0].partition("%")[0]))

    def _take(self, data: bytes, source: Address) -> None:
        if len(data) != len(_HEAD) + _BODY.size or not data.startswith(_HEAD):
            return
        secret, sent_ns, vni = _BODY.unpack_from(data, len(_HEAD))
        key = self._names.get((source, vni))
        if secret == self._secret and key in self._heard:
            self._heard[key] = max(self._heard[key], sent_ns / 1e9)
