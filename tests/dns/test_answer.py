"""Answers about the domain's own names, bit for bit as a resolver reads them."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.reversename
import pytest
from dns.message import Message
from hypothesis import given
from hypothesis import strategies as st

from daemon.dns.answer import MOST_BYTES, PLAIN_BYTES, answer, datagram, read, whole
from daemon.dns.names import names_of
from tests.dns.zone import MEMBERS, domain, endpoint, names

NAMES = names()


def ask(name: str, kind: str = "A", **more: object) -> Message:
    """The answer, as it comes out of the wire."""
    query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
    asked = read(query.to_wire())
    assert isinstance(asked, Message)
    response = answer(asked, NAMES)
    assert response is not None
    found = dns.message.from_wire(response.to_wire())
    assert query.is_response(found)
    return found


def said(response: Message) -> list[str]:
    return sorted(str(one) for rrset in response.answer for one in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("web.shop.example", "A", ["10.1.0.11"]),
        ("web.shop.example", "AAAA", ["fd00:1::11"]),
        ("WEB.Shop.Example", "A", ["10.1.0.11"]),
        ("servers.shop.example", "A", ["10.1.0.11", "10.1.1.12"]),
        ("www.shop.example", "A", ["10.1.0.11", "web.shop.example."]),
        ("docs.shop.example", "A", ["www.example.com."]),
        ("www.shop.example", "CNAME", ["web.shop.example."]),
        ("shop.example", "MX", ["10 mail.shop.example."]),
        ("shop.example", "TXT", ['"v=spf1 \\"quoted\\" -all"']),
        ("shop.example", "NS", ["shop.example."]),
        ("_sip._udp.shop.example", "SRV", ["10 5 5060 web.shop.example."]),
        ("any.apps.shop.example", "A", ["10.1.0.80"]),
        ("a.b.apps.shop.example", "A", ["10.1.0.80"]),
        ("here.apps.shop.example", "A", ["10.1.0.81"]),
        ("gw.shop.example", "A", ["10.1.0.254"]),  # a record goes before the router
        ("13.0.1.10.in-addr.arpa", "PTR", ["db.shop.example."]),
        ("12.1.1.10.in-addr.arpa", "PTR", ["api.shop.example."]),
        ("1.0.1.10.in-addr.arpa", "PTR", ["gw.shop.example."]),
        (dns.reversename.from_address("fd00:1::11").to_text(), "PTR", ["web.shop.example."]),
    ],
)
def test_what_is_there(name: str, kind: str, values: list[str]) -> None:
    found = ask(name, kind)
    assert (found.rcode(), said(found)) == (dns.rcode.NOERROR, values)
    assert found.flags & dns.flags.AA
    assert not found.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("db.shop.example", "AAAA", dns.rcode.NOERROR),  # another type of it is there
        ("apps.shop.example", "A", dns.rcode.NOERROR),  # names below it are
        ("_udp.shop.example", "A", dns.rcode.NOERROR),
        ("nobody.shop.example", "A", dns.rcode.NXDOMAIN),  # a group without members
        ("gone.shop.example", "A", dns.rcode.NXDOMAIN),
        ("x.here.apps.shop.example", "A", dns.rcode.NXDOMAIN),  # the closest name has no wildcard
        ("99.0.1.10.in-addr.arpa", "PTR", dns.rcode.NXDOMAIN),
        ("loop.shop.example", "A", dns.rcode.NOERROR),
    ],
)
def test_what_is_not_there(name: str, kind: str, rcode: dns.rcode.Rcode) -> None:
    found = ask(name, kind)
    assert found.rcode() == rcode
    if not name.startswith("loop"):
        assert said(found) == []
        (soa,) = found.authority
        assert soa.ttl == soa[0].minimum == 30


@pytest.mark.parametrize(
    "name", ["www.example.com", "shop.example.org", "1.2.1.10.in-addr.arpa", ".", "example"]
)
def test_names_of_others_are_refused_without_forwarders(name: str) -> None:
    assert ask(name).rcode() == dns.rcode.REFUSED


def test_names_of_others_are_left_to_forwarders() -> None:
    query = dns.message.make_query("www.example.com", "A")
    assert answer(query, names(forwarders=["192.0.2.53"])) is None
    own = answer(dns.message.make_query("db.shop.example", "A"), names(forwarders=["192.0.2.53"]))
    assert own is not None
    assert own.flags & dns.flags.RA


def test_lifetimes() -> None:
    assert ask("db.shop.example").answer[0].ttl == 30
    assert ask("any.apps.shop.example").answer[0].ttl == 7


def test_the_zone_is_named_after_the_domain_unless_said() -> None:
    made = names_of(domain(zone=None, records=[]), MEMBERS)
    assert made is not None
    assert made.zone_of(dns.name.from_text("web.shop.acme.internal")) is not None


def test_an_endpoint_goes_before_a_group_of_its_name() -> None:
    made = names_of(domain(records=[]), [*MEMBERS, endpoint("servers", "10.1.0.99")])
    assert made is not None
    found = answer(dns.message.make_query("servers.shop.example", "A"), made)
    assert found is not None
    assert said(found) == ["10.1.0.99"]


def test_any_is_answered_with_one_set() -> None:
    found = ask("web.shop.example", "ANY")
    assert len(found.answer) == 1


@pytest.mark.parametrize(
    ("edns", "payload", "most"), [(-1, 0, PLAIN_BYTES), (0, 4096, MOST_BYTES), (0, 600, 600)]
)
def test_what_is_too_long_for_udp_is_cut_and_says_so(edns: int, payload: int, most: int) -> None:
    query = dns.message.make_query(
        "big.shop.example", "TXT", use_edns=edns, payload=payload or None
    )
    asked = read(query.to_wire())
    assert isinstance(asked, Message)
    response = answer(asked, NAMES)
    assert response is not None
    wire = datagram(asked, response)
    assert len(wire) <= most
    found = dns.message.from_wire(wire)
    assert found.flags & dns.flags.TC
    assert found.edns == edns
    assert len(dns.message.from_wire(whole(response)).answer[0]) == 30


def test_a_newer_edns_is_told_ours() -> None:
    query = dns.message.make_query("web.shop.example", "A", use_edns=0)
    query.use_edns(1)
    response = answer(query, NAMES)
    assert response is not None
    assert (response.rcode(), response.edns) == (dns.rcode.BADVERS, 0)


def test_what_is_no_ordinary_question_is_refused() -> None:
    assert ask("shop.example", "AXFR").rcode() == dns.rcode.REFUSED
    assert ask("version.bind", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED
    status = dns.message.make_query("shop.example", "A")
    status.set_opcode(dns.opcode.STATUS)
    response = answer(status, NAMES)
    assert response is not None
    assert response.rcode() == dns.rcode.NOTIMP
    empty = dns.message.QueryMessage()
    response = answer(empty, NAMES)
    assert response is not None
    assert response.rcode() == dns.rcode.FORMERR


def test_an_answer_is_not_answered() -> None:
    response = dns.message.make_response(dns.message.make_query("shop.example", "A"))
    assert read(response.to_wire()) is None


@given(noise=st.binary(max_size=80), keep=st.integers(0, 60))
def test_noise_ends_in_an_answer_or_in_silence(noise: bytes, keep: int) -> None:
    whole = dns.message.make_query("web.shop.example", "A", use_edns=0).to_wire()
    question = whole[:keep] + noise
    query = read(question)
    if isinstance(query, bytes):
        assert query[:2] == question[:2]
        assert dns.message.from_wire(query).rcode() == dns.rcode.FORMERR
    elif query is not None:
        response = answer(query, NAMES)
        assert response is not None
        dns.message.from_wire(datagram(query, response))
