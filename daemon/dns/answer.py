"""What is answered to a question about the domain's own names. Pure."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.message import Message, QueryMessage
from dns.name import Name
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from dns.rrset import RRset

from daemon.dns.names import Names, Sets, Zone

#: Of a UDP answer where the question says nothing (RFC 1035), and the most of ours: what
#: passes every link unfragmented (DNS flag day 2020).
PLAIN_BYTES, MOST_BYTES = 512, 1232
MAX_CHAIN = 8  # of CNAMEs
_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})
_HEADER = 12


def read(question: bytes) -> Message | bytes | None:
    """The question; or the answer to one that cannot be read; or None: say nothing."""
    if len(question) < _HEADER or question[2] & 0x80:  # no header, or an answer
        return None
    try:
        return dns.message.from_wire(question)
    except (dns.exception.DNSException, ValueError):
        opcode = question[2] & 0x78
        return question[:2] + bytes([0x80 | opcode, dns.rcode.FORMERR]) + bytes(8)


def answer(query: Message, names: Names) -> Message | None:
    """None: it is about a name of nobody here, and there are forwarders."""
    refusal = _refusal(query)
    if refusal is not None:
        return respond(query, names, refusal)
    question = query.question[0]
    zone = names.zone_of(question.name)
    if zone is None:
        return None if names.forwarders else respond(query, names, dns.rcode.REFUSED)
    response = respond(query, names, dns.rcode.NOERROR)
    response.flags |= dns.flags.AA
    _fill(response, names, zone, question.name, question.rdtype)
    return response


def _refusal(query: Message) -> Rcode | None:
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if query.edns > 0:
        return dns.rcode.BADVERS
    if not isinstance(query, QueryMessage) or len(query.question) != 1:
        return dns.rcode.FORMERR
    question = query.question[0]
    if question.rdclass != dns.rdataclass.IN or question.rdtype in _TRANSFERS:
        return dns.rcode.REFUSED
    return None


def respond(query: Message, names: Names, rcode: Rcode) -> Message:
    """An answer without records."""
    response = dns.message.make_response(
        query, recursion_available=bool(names.forwarders), our_payload=MOST_BYTES
    )
    if query.edns > 0:
        response.use_edns(0, payload=MOST_BYTES)
    response.set_rcode(rcode)
    return response


def _fill(response: Message, names: Names, zone: Zone, name: Name, kind: RdataType) -> None:
    """Follows canonical names as far as they are ours."""
    for _ in range(MAX_CHAIN):
        sets = zone.find(name)
        if sets is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(zone.soa)
            return
        canonical = sets.get(dns.rdatatype.CNAME)
        if canonical is None or kind in (dns.rdatatype.CNAME, dns.rdatatype.ANY):
            _found(response, zone, name, sets, kind)
            return
        _put(response, name, canonical)
        name = canonical[0].target
        following = names.zone_of(name)
        if following is None:
            return  # whoever asked goes on from there
        zone = following


def _found(response: Message, zone: Zone, name: Name, sets: Sets, kind: RdataType) -> None:
    if kind == dns.rdatatype.ANY:  # one set will do (RFC 8482)
        kind = next(iter(sets), kind)
    if kind in sets:
        _put(response, name, sets[kind])
    else:
        response.authority.append(zone.soa)


def _put(response: Message, name: Name, found: RRset) -> None:
    """A wildcard's set bears the name that was asked for."""
    if found.name != name:
        found = dns.rrset.from_rdata_list(name, found.ttl, list(found))
    response.answer.append(found)


def whole(response: Message) -> bytes:
    """As it goes over TCP, whatever the question says of UDP."""
    return response.to_wire(max_size=65535)


def datagram(query: Message, response: Message) -> bytes:
    """As it goes over UDP: cut, and marked so, where it is too long."""
    most = min(max(query.payload, PLAIN_BYTES), MOST_BYTES) if query.edns >= 0 else PLAIN_BYTES
    return response.to_wire(max_size=most, prefer_truncation=True)
