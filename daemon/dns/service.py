"""Questions in, answers out: over UDP, and over TCP for what is too long for it.

Both come as frames that the datapath's stage PUNT took from an endpoint's device, and
leave through it: addresses of tenants overlap, so no socket of the node could be asked.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from daemon.dns.answer import answer, datagram, read, whole
from daemon.dns.forward import Forwarder
from daemon.dns.names import Names
from daemon.model.base import Address
from daemon.responders.frames import Frame, parse
from daemon.responders.segment import (
    PROTO_TCP,
    PROTO_UDP,
    Ends,
    Flag,
    Said,
    Segment,
    heard,
    tcp_frame,
    udp_frame,
)
from daemon.responders.stream import Stream, StreamError

log = logging.getLogger(__name__)

PORT = 53
#: A connection that says nothing ends (RFC 7766, 6.2.3); so many one endpoint may hold.
IDLE_S, CONNECTIONS = 10.0, 16
#: Questions of one endpoint that wait for a forwarder.
WAITING = 64

#: Of a slot: path of its domain, and the domain's names.
NamesOf = Callable[[int], tuple[str, Names] | None]
Send = Callable[[int, bytes], None]
Peer = tuple[int, Address, Address, int]  # slot, address asked, who asks, from which port


class DnsService:
    """`names_of` says what a slot's domain knows; `send` is a frame out of a device."""

    def __init__(self, names_of: NamesOf, send: Send, forwarder: Forwarder | None = None) -> None:
        self._names_of = names_of
        self._send = send
        self._forwarder = forwarder or Forwarder()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, int] = {}  # by slot
        self._lines: dict[Peer, _Line] = {}

    def request(self, slot: int, ifindex: int, raw: bytes) -> None:
        """One record of plum_punt; called in the event loop."""
        known = self._names_of(slot)
        frame = parse(raw)
        if known is None or frame is None:
            return
        ports = struct.unpack("!HH", frame.payload[:4]) if len(frame.payload) >= 4 else (0, 0)
        if ports[1] != PORT:
            return
        ends = Ends(frame.dst_mac, frame.src_mac, frame.dst, frame.src, PORT, ports[0])
        if frame.protocol == PROTO_UDP:
            said = heard(ends, raw)
            if isinstance(said, Said):
                self._start(slot, self._over_udp(known, ifindex, ends, said.data))
        elif frame.protocol == PROTO_TCP:
            self._over_tcp(known, slot, ifindex, ends, frame, raw)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, slot: int, work: Coroutine[Any, Any, None]) -> None:
        if self._waiting.get(slot, 0) >= WAITING:
            work.close()  # asked again, or answered by whoever is quicker
            return
        self._waiting[slot] = self._waiting.get(slot, 0) + 1
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._waiting[slot] -= 1
            if not self._waiting[slot]:
                del self._waiting[slot]

        task.add_done_callback(ended)

    async def _over_udp(
        self, known: tuple[str, Names], ifindex: int, ends: Ends, question: bytes
    ) -> None:
        said = await self._answer(known, question, tcp=False)
        if said is not None:
            self._transmit(ifindex, udp_frame(ends, said))

    async def _answer(
        self, known: tuple[str, Names], question: bytes, *, tcp: bool
    ) -> bytes | None:
        domain, names = known
        query = read(question)
        if query is None or isinstance(query, bytes):
            return query
        response = answer(query, names)
        if response is None:
            response = await self._forwarder.answer(domain, query, names)
        return whole(response) if tcp else datagram(query, response)

    def _over_tcp(
        self,
        known: tuple[str, Names],
        slot: int,
        ifindex: int,
        ends: Ends,
        frame: Frame,
        raw: bytes,
    ) -> None:
        peer = (slot, frame.dst, frame.src, ends.peer_port)
        line = self._lines.get(peer)
        said = heard(ends, raw)
        if not isinstance(said, Segment):
            return
        begins = said.flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN
        if line is not None:
            line.put(raw)
        elif begins and sum(other[0] == slot for other in self._lines) < CONNECTIONS:
            line = _Line(lambda data: self._transmit(ifindex, data))
            self._lines[peer] = line
            self._start(slot, self._converse(known, peer, Stream(line, ends), said))
        elif not said.flags & Flag.RST:  # of no connection of ours
            reset = Segment(said.ack, said.seq + len(said.data) + begins, Flag.RST | Flag.ACK)
            self._transmit(ifindex, tcp_frame(ends, reset))

    async def _converse(
        self, known: tuple[str, Names], peer: Peer, stream: Stream, syn: Segment
    ) -> None:
        try:
            with suppress(TimeoutError, StreamError):
                await self._hold(known, stream, syn)
            await stream.close()
        except asyncio.CancelledError:
            await stream.reset()
            raise
        finally:
            del self._lines[peer]

    async def _hold(self, known: tuple[str, Names], stream: Stream, syn: Segment) -> None:
        """Questions one after the other, until the other side has said all.

        Raises TimeoutError when it is silent, StreamError when it breaks off.
        """
        async with asyncio.timeout(IDLE_S) as patience:
            await stream.accept(syn)
            said = b""
            while True:
                while len(said) < 2 or len(said) < 2 + int.from_bytes(said[:2]):
                    part = await stream.read()
                    if not part:
                        return
                    said += part
                length = int.from_bytes(said[:2])
                question, said = said[2 : 2 + length], said[2 + length :]
                reply = await self._answer(known, question, tcp=True)
                if reply is None:
                    return
                await stream.write(len(reply).to_bytes(2) + reply)
                patience.reschedule(asyncio.get_running_loop().time() + IDLE_S)

    def _transmit(self, ifindex: int, frame: bytes) -> None:
        try:
            self._send(ifindex, frame)
        except OSError as error:  # the device went away or is down
            log.info("answer not sent", extra={"step": "dns", "error": str(error)})


class _Line:
    """Frames of one connection."""

    MOST = 64  # that wait; what is more is sent again

    def __init__(self, transmit: Callable[[bytes], None]) -> None:
        self._transmit = transmit
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(self.MOST)

    def put(self, frame: bytes) -> None:
        if not self._frames.full():
            self._frames.put_nowait(frame)

    async def send(self, frame: bytes) -> None:
        self._transmit(frame)

    async def receive(self) -> bytes:
        return await self._frames.get()
