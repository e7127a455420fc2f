"""Names of others: asked once, kept as long as told, and never mixed between domains."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.message import Message

from daemon.dns import forward
from daemon.dns.forward import Forwarder
from tests.dns.zone import names

pytestmark = pytest.mark.asyncio
NAME = "www.example.com"
Reply = Callable[[Message], Message | None]


class Upstream(asyncio.DatagramProtocol):
    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].name.to_text())
        response = self.reply(query)
        if response is not None:
            self._transport.sendto(response.to_wire(), sender)


@asynccontextmanager
async def upstream(reply: Reply, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Upstream]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(
        lambda: Upstream(reply), (host, port), family=socket.AF_INET
    )
    made.port = transport.get_extra_info("sockname")[1]  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        transport.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def address(query: Message, ttl: int = 60, value: str = "203.0.113.1") -> Message:
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", "A", value))
    return response


def nothing(query: Message) -> Message:
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.NXDOMAIN)
    soa = "ns.example.com. admin.example.com. 1 7200 900 1209600 20"
    response.authority.append(dns.rrset.from_text("example.com.", 900, "IN", "SOA", soa))
    return response


async def asked(forwarder: Forwarder, domain: str = "acme/shop", *servers: str) -> Message:
    query = dns.message.make_query(NAME, "A", use_edns=0)
    known = names(forwarders=list(servers or ("127.0.0.1",)))
    response = await forwarder.answer(domain, query, known)
    assert query.is_response(response)
    return dns.message.from_wire(response.to_wire())


async def test_an_answer_is_kept_for_its_time_and_gets_older() -> None:
    clock = Clock()
    async with upstream(address) as server:
        forwarder = Forwarder(clock, server.port)  # type: ignore[attr-defined]
        first = await asked(forwarder)
        assert first.answer[0].ttl == 60
        assert first.flags & dns.flags.RA and not first.flags & dns.flags.AA
        clock.now += 25
        assert (await asked(forwarder)).answer[0].ttl == 35
        assert len(server.asked) == 1
        clock.now += 36
        assert (await asked(forwarder)).answer[0].ttl == 60
        assert len(server.asked) == 2


async def test_that_there_is_nothing_is_kept_as_long_as_the_zone_says() -> None:
    clock = Clock()
    async with upstream(nothing) as server:
        forwarder = Forwarder(clock, server.port)  # type: ignore[attr-defined]
        for later_s, times in ((0, 1), (19, 1), (2, 2)):
            clock.now += later_s
            assert (await asked(forwarder)).rcode() == dns.rcode.NXDOMAIN
            assert len(server.asked) == times


async def test_domains_share_nothing() -> None:
    """What one tenant's forwarder says of a name is not told to another tenant."""
    async with upstream(lambda query: address(query, value="203.0.113.66")) as bad:
        port = bad.port  # type: ignore[attr-defined]
        async with upstream(address, "127.0.0.2", port):
            forwarder = Forwarder(port=port)
            one = await asked(forwarder, "evil/lab", "127.0.0.1")
            other = await asked(forwarder, "acme/shop", "127.0.0.2")
    assert one.answer[0][0].to_text() == "203.0.113.66"
    assert other.answer[0][0].to_text() == "203.0.113.1"


async def test_many_who_want_the_same_ask_once() -> None:
    async with upstream(address) as server:
        forwarder = Forwarder(port=server.port)  # type: ignore[attr-defined]
        found = await asyncio.gather(*(asked(forwarder) for _ in range(20)))
        assert {one.rcode() for one in found} == {dns.rcode.NOERROR}
        assert len(server.asked) == 1


async def test_the_next_forwarder_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TRY_S", 0.2)

    def refuse(query: Message) -> Message:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.REFUSED)
        return response

    async with upstream(lambda _: None) as silent:
        port = silent.port  # type: ignore[attr-defined]
        async with (
            upstream(refuse, "127.0.0.2", port),
            upstream(address, "127.0.0.3", port) as good,
        ):
            three = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
            found = await asked(Forwarder(port=port), "acme/shop", *three)
            assert found.answer
            assert len(good.asked) == 1


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "TRY_S", 0.1)
    clock = Clock()
    async with upstream(lambda _: None) as silent:
        forwarder = Forwarder(clock, silent.port)  # type: ignore[attr-defined]
        for later_s, times in ((0, 1), (1, 1), (2, 2)):
            clock.now += later_s
            assert (await asked(forwarder)).rcode() == dns.rcode.SERVFAIL
            assert len(silent.asked) == times


async def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "KEPT", 3)
    async with upstream(address) as server:
        forwarder = Forwarder(port=server.port)  # type: ignore[attr-defined]
        for number in range(8):
            query = dns.message.make_query(f"n{number}.example.com", "A")
            await forwarder.answer("acme/shop", query, names(forwarders=["127.0.0.1"]))
        assert len(forwarder._kept) == 3
