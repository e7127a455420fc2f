"""Names of nobody here: asked of others, and remembered for as long as they say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.message import Message
from dns.rrset import RRset

from daemon.dns.answer import MOST_BYTES, respond
from daemon.dns.names import Names

log = logging.getLogger(__name__)

TRY_S = 2.0  # of one forwarder; then the next is asked
MAX_TTL_S, MAX_NEGATIVE_S = 3600, 300
FAILED_S = 2  # what nobody answers is not asked again for so long
KEPT = 10_000  # answers of the node
AT_ONCE = 256  # questions of one domain under way

#: Whose name it is told to, and what was asked: nothing is shared between domains.
Key = tuple[str, str, int, bool]


@dataclass(frozen=True, slots=True)
class Kept:
    at: float
    until: float
    response: Message


class Forwarder:
    def __init__(self, clock: Callable[[], float] = time.monotonic, port: int = 53) -> None:
        self._clock = clock
        self._port = port
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._asking: dict[Key, asyncio.Task[Kept]] = {}

    async def answer(self, domain: str, query: Message, names: Names) -> Message:
        """Its answer, from memory where it is there. SERVFAIL when nobody answers."""
        question = query.question[0]
        signed = bool(query.ednsflags & dns.flags.DO)
        key = (domain, question.name.canonicalize().to_text(), question.rdtype, signed)
        kept = self._kept.get(key)
        if kept is None or kept.until <= self._clock():
            kept = await self._ask(key, query, names)
        else:
            self._kept.move_to_end(key)
        return _retold(kept, query, names, self._clock())

    async def _ask(self, key: Key, query: Message, names: Names) -> Kept:
        """Once for all who want the same at this time."""
        asking = self._asking.get(key)
        if asking is None:
            if sum(other[0] == key[0] for other in self._asking) >= AT_ONCE:
                now = self._clock()
                return Kept(now, now, respond(query, names, dns.rcode.SERVFAIL))
            asking = asyncio.create_task(self._fetch(key, query, names))
            self._asking[key] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _fetch(self, key: Key, query: Message, names: Names) -> Kept:
        found = None
        for address in names.forwarders:
            found = await self._from(str(address), query)
            if found is not None:
                break
        now = self._clock()
        if found is None:
            kept = Kept(now, now + FAILED_S, respond(query, names, dns.rcode.SERVFAIL))
        else:
            kept = Kept(now, now + _lifetime_s(found), found)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _from(self, address: str, query: Message) -> Message | None:
        question = query.question[0]
        asked = dns.message.make_query(
            question.name,
            question.rdtype,
            use_edns=0,
            want_dnssec=bool(query.ednsflags & dns.flags.DO),
            payload=MOST_BYTES,
        )
        try:
            found, _ = await dns.asyncquery.udp_with_fallback(
                asked, address, timeout=TRY_S, port=self._port
            )
        except (dns.exception.DNSException, OSError, EOFError) as error:
            log.info(
                "no answer",
                extra={"step": "dns", "object": address, "error": str(error) or repr(error)},
            )
            return None
        return None if found.rcode() in (dns.rcode.SERVFAIL, dns.rcode.REFUSED) else found


def _lifetime_s(found: Message) -> float:
    sets = [*found.answer, *found.authority]
    shortest = min((one.ttl for one in sets), default=0)
    if found.answer and found.rcode() == dns.rcode.NOERROR:
        return min(shortest, MAX_TTL_S)
    for one in found.authority:
        if one.rdtype == dns.rdatatype.SOA:
            shortest = min(shortest, one[0].minimum)
    return min(shortest, MAX_NEGATIVE_S)


def _retold(kept: Kept, query: Message, names: Names, now: float) -> Message:
    """To this asker, and older by the time it was kept."""
    response = respond(query, names, kept.response.rcode())
    age = int(now - kept.at)
    response.answer = [_aged(one, age) for one in kept.response.answer]
    response.authority = [_aged(one, age) for one in kept.response.authority]
    return response


def _aged(one: RRset, age: int) -> RRset:
    return dns.rrset.from_rdata_list(one.name, max(0, one.ttl - age), list(one))
