"""PUNT: requests for the responders, and how many of them."""

from __future__ import annotations

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_RS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.abi import Drop, Index, PuntKind
from daemon.model.snapshot import Snapshot
from tests.bpf import topology as t
from tests.bpf.frames import PORT, payload, to
from tests.bpf.lab import SHOT, Lab

pytestmark = pytest.mark.privileged


def dhcp4(name: str, src: str = "0.0.0.0") -> Packet:
    head = Ether(src=t.mac(name), dst="ff:ff:ff:ff:ff:ff") / IP(src=src, dst="255.255.255.255")
    return head / UDP(sport=68, dport=67) / BOOTP() / DHCP(options=[("message-type", 1), "end"])


def dhcp6(name: str) -> Packet:
    head = Ether(src=t.mac(name), dst="33:33:00:01:00:02") / IPv6(src=t.lla(name), dst="ff02::1:2")
    return head / UDP(sport=546, dport=547) / DHCP6_Solicit()


def solicitation(name: str, src: str | None = None) -> Packet:
    head = Ether(src=t.mac(name), dst="33:33:00:00:00:02")
    head /= IPv6(src=src or t.lla(name), dst="ff02::2", hlim=255)
    return head / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=t.mac(name))


KINDS = {
    PuntKind.DHCP4: dhcp4,
    PuntKind.DHCP6: dhcp6,
    PuntKind.RS: solicitation,
}


@pytest.mark.parametrize("kind", KINDS)
def test_request_is_punted_whole(lab: Lab, kind: PuntKind) -> None:
    packet = KINDS[kind]("a")
    outcome = lab.send("a", packet)
    assert (outcome.verdict, outcome.drops) == (SHOT, {})
    (punt,) = outcome.punted
    assert (punt.kind, punt.ifindex, punt.slot) == (kind, lab.ifindex["a"], 1)
    assert punt.frame[: punt.len] == bytes(packet)
    assert not lab.copies() and not lab.flows(), "nobody else hears it"


def test_requests_without_an_address_are_punted(lab: Lab) -> None:
    assert len(lab.send("a", dhcp4("a")).punted) == 1
    assert len(lab.send("a", dhcp4("a", t.ip4("a"))).punted) == 1
    packet = Ether(src=t.mac("a"), dst="33:33:00:00:00:02") / IPv6(
        src="::", dst="ff02::2", hlim=255
    )
    assert len(lab.send("a", packet / ICMPv6ND_RS()).punted) == 1
    forged = dhcp4("a", t.ip4("b"))
    assert lab.send("a", forged).drop == Drop.SOURCE_ADDRESS


@pytest.mark.parametrize("kind", [PuntKind.DHCP4, PuntKind.DHCP6])
def test_bridge_without_responder_drops(lab: Lab, kind: PuntKind) -> None:
    outcome = lab.send("q", KINDS[kind]("q"))
    assert outcome.drops == {("q", Drop.RESPONDER): 1}
    assert not outcome.punted


def test_bridge_without_responder_swallows_solicitations(lab: Lab) -> None:
    """Every IPv6 guest sends them: that no router answers is no drop to count."""
    outcome = lab.send("q", solicitation("q"))
    assert (outcome.verdict, outcome.drops, outcome.punted) == (SHOT, {}, ())
    assert not lab.copies()


def test_rate_is_limited_per_endpoint(lab: Lab) -> None:
    lab.config(punt_per_s=2)
    results = [lab.send("a", dhcp4("a")) for _ in range(4)]
    assert [len(r.punted) for r in results] == [1, 1, 0, 0]
    assert results[3].drops == {("a", Drop.PUNT_LIMIT): 1}
    assert len(lab.send("b", dhcp4("b")).punted) == 1, "others have their own"
    row = lab.rows("plum_punt_rate")[Index(1)]
    lab.write("plum_punt_rate", Index(1), row._replace(window=row.window - 2 * 10**9))
    assert len(lab.send("a", dhcp4("a")).punted) == 1, "the next second is another one"


def test_full_queue_drops(lab: Lab) -> None:
    results = lab.without_reader(lambda: [lab.send("a", dhcp4("a")) for _ in range(4)])
    assert [r.drop for r in results] == [None, None, None, Drop.PUNT_FULL]
    outcome = lab.send("a", dhcp4("a"))
    assert (outcome.drop, len(outcome.punted)) == (Drop.PUNT_FULL, 3), "now they are read"
    assert len(lab.send("a", dhcp4("a")).punted) == 1


def with_names() -> Snapshot:
    return t.zone(t.shop(dns={}))


def asks(
    address: str, layer: Packet | None = None, dmac: str = t.ONE_MAC, who: str = "a"
) -> Packet:
    return to(who, address, dmac) / (layer or UDP(sport=PORT, dport=53)) / payload(20)


GATEWAYS = ("10.0.1.1", "2001:db8:1::1")


@pytest.mark.parametrize("address", GATEWAYS)
@pytest.mark.parametrize("flags", ["", "S", "PA", "FA", "R"])
def test_a_gateway_is_asked_for_names(lab: Lab, address: str, flags: str) -> None:
    """Whatever the segment says: the connection is between the guest and plumd."""
    lab.program(with_names())
    packet = asks(address, TCP(sport=PORT, dport=53, flags=flags) if flags else None)
    outcome = lab.send("a", packet)
    (punt,) = outcome.punted
    assert (punt.kind, punt.slot, outcome.drops) == (PuntKind.DNS, 1, {})
    assert punt.frame[: punt.len] == bytes(packet)
    assert not lab.flows()


@pytest.mark.parametrize("address", GATEWAYS)
def test_without_names_a_gateway_is_not_asked(lab: Lab, address: str) -> None:
    assert not lab.send("a", asks(address)).punted


def test_only_ones_own_gateway_is_asked(lab: Lab) -> None:
    lab.program(with_names())
    other = [
        asks("10.0.2.1"),  # of another bridge
        asks(t.ip4("b"), dmac=t.mac("b")),  # a neighbour with a server of its own
        asks("10.0.1.1", dmac=t.mac("b")),  # the gateway's address, sent to a neighbour
        asks("10.0.1.1", UDP(sport=PORT, dport=54)),
        asks("10.0.1.1", UDP(sport=53, dport=PORT)),
    ]
    assert not any(lab.send("a", packet).punted for packet in other)


def test_policies_do_not_keep_names_from_anybody(lab: Lab) -> None:
    lab.program(t.zone(t.shop(dns={}, default={"ingress": "deny", "egress": "deny"})))
    assert len(lab.send("a", asks("10.0.1.1")).punted) == 1


def test_names_and_leases_have_each_a_rate(lab: Lab) -> None:
    lab.program(with_names())
    lab.config(dns_per_s=2, punt_per_s=1)
    punted = [len(lab.send("a", asks("10.0.1.1")).punted) for _ in range(4)]
    assert punted == [1, 1, 0, 0]
    assert lab.send("a", asks("10.0.1.1")).drops == {("a", Drop.PUNT_LIMIT): 1}
    assert len(lab.send("a", dhcp4("a")).punted) == 1
    assert len(lab.send("b", asks("10.0.1.1", who="b")).punted) == 1


def test_oversized_request_is_refused(lab: Lab) -> None:
    head = Ether(src=t.mac("a"), dst="ff:ff:ff:ff:ff:ff")
    head /= IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
    fits = head / payload(2048 - 42)
    assert lab.send("a", fits).punted[0].len == 2048
    assert lab.send("a", head / payload(2049 - 42)).drop == Drop.RESPONDER
