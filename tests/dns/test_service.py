"""Frames in, frames out: UDP in one, TCP as a conversation with an end of ours."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import pytest

from daemon.dns import service
from daemon.dns.names import Names
from daemon.dns.service import DnsService
from daemon.responders.segment import Ends, Flag, Said, Segment, heard, tcp_frame, udp_frame
from daemon.responders.stream import FAREWELL_S, Stream, StreamError
from tests.dns.zone import names

pytestmark = pytest.mark.asyncio
SLOT, IFINDEX = 1, 9
GATEWAY, GUEST = b"\x02r\0\0\0\1", b"\x02e\0\0\0\1"


class Workload:
    """The endpoint's end: what the service sends is heard here."""

    def __init__(self, port: int = 40000, family: int = 4, loses: int = 0) -> None:
        own, gateway = ("10.1.0.11", "10.1.0.1") if family == 4 else ("fd00:1::11", "fd00:1::1")
        self.ends = Ends(GUEST, GATEWAY, ip_address(own), ip_address(gateway), port, 53)
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.service = DnsService(self._known, self._hear)
        self._loses = loses  # every n-th frame, in both directions
        self._seen = 0

    def _known(self, slot: int) -> tuple[str, Names] | None:
        return ("acme/shop", names()) if slot == SLOT else None

    def _lost(self) -> bool:
        self._seen += 1
        return bool(self._loses) and self._seen % self._loses == 0

    def _hear(self, ifindex: int, frame: bytes) -> None:
        assert ifindex == IFINDEX
        if not self._lost():
            self.frames.put_nowait(frame)

    async def send(self, frame: bytes) -> None:
        if not self._lost():
            self.service.request(SLOT, IFINDEX, frame)

    async def receive(self) -> bytes:
        return await self.frames.get()

    async def said(self) -> object:
        return heard(self.ends, await asyncio.wait_for(self.receive(), 5))


def question(name: str = "web.shop.example", kind: str = "A") -> bytes:
    return dns.message.make_query(name, kind).to_wire()


@pytest.mark.parametrize("family", [4, 6])
async def test_over_udp(family: int) -> None:
    guest = Workload(family=family)
    await guest.send(udp_frame(guest.ends, question()))
    said = await guest.said()
    assert isinstance(said, Said)
    assert dns.message.from_wire(said.data).answer[0][0].to_text() == "10.1.0.11"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("loses", [0, 5])
async def test_over_tcp_what_is_too_long_for_udp(family: int, loses: int) -> None:
    guest = Workload(family=family, loses=loses)
    stream = Stream(guest, guest.ends)
    async with asyncio.timeout(20):
        await stream.open()
        for kind, count in (("TXT", 30), ("TXT", 30)):
            asked = question("big.shop.example", kind)
            await stream.write(len(asked).to_bytes(2) + asked)
            said = b""
            while len(said) < 2 or len(said) < 2 + int.from_bytes(said[:2]):
                said += await stream.read()
            found = dns.message.from_wire(said[2:])
            assert len(found.answer[0]) == count
            assert not found.flags & dns.flags.TC
        await stream.close()
    await guest.service.close()


async def test_questions_in_one_segment_are_answered_in_turn() -> None:
    guest = Workload()
    stream = Stream(guest, guest.ends)
    two = b"".join(len(one).to_bytes(2) + one for one in (question(), question("db.shop.example")))
    async with asyncio.timeout(5):
        await stream.open()
        await stream.write(two)
        said = b""
        while said.count(bytes([10, 1, 0])) < 2:
            said += await stream.read()
        await stream.close()
    await guest.service.close()


async def test_what_belongs_to_no_connection_is_reset() -> None:
    guest = Workload()
    await guest.send(tcp_frame(guest.ends, Segment(7, 99, Flag.ACK, b"x")))
    said = await guest.said()
    assert isinstance(said, Segment)
    assert said.flags & Flag.RST
    assert (said.seq, said.ack) == (99, 8)
    await guest.send(tcp_frame(guest.ends, Segment(7, 99, Flag.RST | Flag.ACK)))
    assert guest.frames.empty()


async def test_a_silent_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "IDLE_S", 0.2)
    guest = Workload()
    stream = Stream(guest, guest.ends)
    await stream.open()
    async with asyncio.timeout(5):
        assert await stream.read() == b""  # it has said all, which is nothing
    await asyncio.sleep(2 * FAREWELL_S)
    with pytest.raises(StreamError, match="reset"):
        await asyncio.wait_for(stream.write(b"\0"), 5)
    await guest.service.close()


async def test_one_endpoint_holds_so_many_connections_and_no_more() -> None:
    guest = Workload()
    for port in range(service.CONNECTIONS + 4):
        ends = Ends(GUEST, GATEWAY, guest.ends.address, guest.ends.peer, 41000 + port, 53)
        await guest.send(tcp_frame(ends, Segment(1, 0, Flag.SYN)))
    await asyncio.sleep(0.05)
    begun = {
        frame[36:38] for frame in (guest.frames.get_nowait() for _ in range(guest.frames.qsize()))
    }
    assert len(begun) <= service.CONNECTIONS + 4
    assert len(guest.service._lines) == service.CONNECTIONS
    await guest.service.close()
    assert not guest.service._lines


async def test_others_and_noise_are_not_answered() -> None:
    guest = Workload()
    frame = udp_frame(guest.ends, question())
    guest.service.request(2, IFINDEX, frame)  # a slot without names
    guest.service.request(SLOT, IFINDEX, b"")
    guest.service.request(SLOT, IFINDEX, frame[:30])
    guest.service.request(SLOT, IFINDEX, frame[:50])
    await asyncio.sleep(0.05)
    assert guest.frames.empty()
