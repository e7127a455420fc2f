"""One end of a short TCP connection (RFC 9293), over frames.

Addresses of tenants overlap, so no socket of the node can reach a workload; frames put
into its device can. Both sides say little: one segment in flight, nothing kept out of
order, no window to speak of.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

from daemon.responders.segment import (
    MSS,
    Ends,
    Flag,
    Segment,
    Unreachable,
    heard,
    tcp_frame,
)

#: Of the first segment; doubled each time. The wire is a few microseconds long.
RESEND_S = 0.1
#: To let the other side close in peace.
FAREWELL_S = 0.2
_MASK = (1 << 32) - 1


class Line(Protocol):
    """Frames to and from one workload's device."""

    async def send(self, frame: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class StreamError(Exception):
    """Why there is no connection (any more), in words for a backend's owner."""


class Stream:
    def __init__(self, line: Line, ends: Ends) -> None:
        self._line = line
        self._ends = ends
        self._next = secrets.randbits(32)  # to be said
        self._acked = self._next  # by the other side
        self._heard = 0  # next sequence number of theirs
        self._data = bytearray()
        self._open = False
        self.ended = False  # they have said all

    async def open(self) -> None:
        """Raises StreamError when it is refused; the caller limits the time."""
        await self._insist(Flag.SYN, b"", 1)

    async def accept(self, syn: Segment) -> None:
        """Answer one who began; the caller limits the time. Raises StreamError."""
        self._heard, self._open = (syn.seq + 1) & _MASK, True
        await self._insist(Flag.SYN | Flag.ACK, b"", 1)

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), MSS):
            part = data[at : at + MSS]
            await self._insist(Flag.ACK | Flag.PSH, part, len(part))

    async def read(self) -> bytes:
        """What came in; empty: they have said all."""
        while not self._data and not self.ended:
            await self._listen()
        data = bytes(self._data)
        self._data.clear()
        return data

    async def close(self) -> None:
        """In peace where they close as well, else by a reset: never half open."""
        if not self._open:
            return
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._insist(Flag.ACK | Flag.FIN, b"", 1)
                while not self.ended:
                    await self._listen()
                return
        except (TimeoutError, StreamError):
            if not self._open:
                return
        await self.reset()

    async def reset(self) -> None:
        """At once."""
        if self._open:
            await self._say(Flag.RST | Flag.ACK, b"", self._next)

    async def _insist(self, flags: Flag, data: bytes, length: int) -> None:
        """Say it again until it is acknowledged."""
        seq, wait_s = self._next, RESEND_S
        self._next = (seq + length) & _MASK
        while self._acked != self._next:
            await self._say(flags, data, seq)
            try:
                async with asyncio.timeout(wait_s):
                    while self._acked != self._next:
                        await self._listen()
            except TimeoutError:
                wait_s *= 2

    async def _say(self, flags: Flag, data: bytes, seq: int) -> None:
        ack = self._heard if flags & Flag.ACK else 0
        await self._line.send(tcp_frame(self._ends, Segment(seq, ack, flags, data)))

    async def _listen(self) -> None:
        said = heard(self._ends, await self._line.receive())
        if isinstance(said, Unreachable):
            raise StreamError("port unreachable")
        if isinstance(said, Segment):
            await self._take(said)

    async def _take(self, said: Segment) -> None:
        if said.flags & Flag.RST:
            was_open, self._open = self._open, False
            if was_open or said.ack == self._next:
                raise StreamError("connection reset" if was_open else "connection refused")
            return
        if not said.flags & Flag.ACK:
            return
        if said.flags & Flag.SYN:
            if said.ack == self._next and not self._open:
                self._heard, self._open = (said.seq + 1) & _MASK, True
                self._acked = said.ack
            if self._open:
                await self._say(Flag.ACK, b"", self._next)
            return
        if not self._open:
            return
        if said.ack == self._next:
            self._acked = said.ack
        if said.data or said.flags & Flag.FIN:
            await self._take_data(said)

    async def _take_data(self, said: Segment) -> None:
        if said.seq == self._heard and not self.ended:
            self._data += said.data
            self.ended = bool(said.flags & Flag.FIN)
            self._heard = (said.seq + len(said.data) + self.ended) & _MASK
        await self._say(Flag.ACK, b"", self._next)
