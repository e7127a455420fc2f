"""PORT_SECURITY: an endpoint speaks only for itself."""

from __future__ import annotations

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, payload, to, udp
from tests.bpf.lab import Lab

pytestmark = pytest.mark.privileged

FOREIGN = {
    4: ["10.0.1.12", "10.0.1.1", "8.8.8.8", "127.0.0.1", "169.254.1.1", "0.0.0.0"],
    6: ["2001:db8:1::12", "2001:db8:1::1", "2600::1", "::1", "fe80::1", "::", t.lla("b")],
}


@pytest.mark.parametrize("source", FOREIGN[4] + FOREIGN[6])
def test_foreign_source_address_is_dropped_and_counted(lab: Lab, source: str) -> None:
    family = 6 if ":" in source else 4
    packet = to("a", t.ip("b", family), t.mac("b"), src=source) / UDP(sport=1, dport=2)
    outcome = lab.send("a", packet)
    assert (outcome.verdict, outcome.drops) == (2, {("a", Drop.SOURCE_ADDRESS): 1})
    assert not lab.flows()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mac", [t.mac("b"), t.ONE_MAC, "02:00:00:00:00:99", "03:65:00:00:00:01"])
def test_foreign_source_mac_is_dropped(lab: Lab, family: int, mac: str) -> None:
    packet = udp("a", "b", family)
    packet[Ether].src = mac
    assert lab.send("a", packet).drops == {("a", Drop.SOURCE_MAC): 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_source_is_checked_for_packets_of_known_flows(lab: Lab, family: int) -> None:
    """The fast path must not let a frame pass that differs only in its MAC."""
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    packet = udp("a", "b", family)
    packet[Ether].src = t.mac("b")
    assert lab.send("a", packet).drop == Drop.SOURCE_MAC
    assert lab.send("d", udp("a", "b", family)).drop in (Drop.SOURCE_MAC, Drop.SOURCE_ADDRESS)


@pytest.mark.parametrize(
    ("source", "mac"),
    [
        ("10.0.1.100", None),
        ("10.77.3.4", None),
        ("10.0.1.101", t.VRRP_MAC),
        ("2001:db8:1::100", None),
        ("2001:db8:77:1::5", None),
        (t.lla("p"), None),
    ],
)
def test_allowed_pairs_and_link_local_pass(lab: Lab, source: str, mac: str | None) -> None:
    family = 6 if ":" in source else 4
    packet = to("p", t.ip("b", family), t.mac("b"), src=source) / UDP(sport=1, dport=2)
    packet[Ether].src = mac or t.mac("p")
    assert lab.send("p", packet).delivered_to == "b"


@pytest.mark.parametrize(
    ("source", "mac", "reason"),
    [
        ("10.0.1.101", t.mac("p"), Drop.SOURCE_ADDRESS),  # only with the pair's MAC
        ("10.0.1.15", t.VRRP_MAC, Drop.SOURCE_MAC),  # only with its own
        ("10.78.0.1", t.mac("p"), Drop.SOURCE_ADDRESS),
        ("10.0.1.102", t.VRRP_MAC, Drop.SOURCE_ADDRESS),
    ],
)
def test_pairs_allow_no_more_than_they_say(lab: Lab, source: str, mac: str, reason: Drop) -> None:
    packet = to("p", "10.0.1.12", t.mac("b"), src=source) / UDP(sport=1, dport=2)
    packet[Ether].src = mac
    assert lab.send("p", packet).drop == reason
    assert lab.send("a", packet).drop in (Drop.SOURCE_ADDRESS, Drop.SOURCE_MAC)


def test_reply_direction_is_checked_too(lab: Lab) -> None:
    assert lab.send("a", udp("a", "b")).delivered_to == "b"
    forged = to("d", "10.0.1.11", t.mac("a"), src="10.0.1.12") / UDP(sport=5000, dport=40000)
    assert lab.send("d", forged).drop == Drop.SOURCE_ADDRESS


def _dhcp_answer(family: int, source: str) -> Packet:
    if family == 4:
        ports = UDP(sport=67, dport=68)
        return to(source, t.ip4("b"), t.mac("b")) / ports / BOOTP(op=2) / DHCP(options=["end"])
    return to(source, t.ip6("b"), t.mac("b")) / UDP(sport=547, dport=546) / payload(8)


@pytest.mark.parametrize("family", FAMILIES)
def test_dhcp_server_answers_are_refused(lab: Lab, family: int) -> None:
    assert lab.send("a", _dhcp_answer(family, "a")).drops == {("a", Drop.ROGUE_DHCP): 1}
    question = UDP(sport=1067, dport=67 if family == 4 else 547)
    assert lab.send("b", to("b", t.ip("a", family), t.mac("a")) / question).delivered_to == "a"
    answer = UDP(sport=67 if family == 4 else 547, dport=1067)
    packet = to("a", t.ip("b", family), t.mac("b")) / answer
    assert lab.send("a", packet).drop == Drop.ROGUE_DHCP, "not even as a reply"


def test_fragmented_dhcp_answer_is_refused(lab: Lab) -> None:
    first = to("a", t.ip4("b"), t.mac("b"), flags="MF") / UDP(sport=67, dport=68) / payload(16)
    assert lab.send("a", first).drop == Drop.ROGUE_DHCP
    later = to("a", t.ip4("b"), t.mac("b"), frag=3, proto=17) / payload(16)
    assert lab.send("a", later).drop == Drop.FRAGMENT_FIRST


@pytest.mark.parametrize(
    "message",
    [ICMPv6ND_RA(), ICMPv6ND_Redirect(), IPv6ExtHdrFragment(m=1) / ICMPv6ND_RA() / payload(8)],
    ids=["ra", "redirect", "fragmented-ra"],
)
def test_router_advertisements_and_redirects_are_refused(lab: Lab, message: Packet) -> None:
    head = Ether(src=t.mac("a"), dst="33:33:00:00:00:01") / IPv6(
        src=t.lla("a"), dst="ff02::1", hlim=255
    )
    assert lab.send("a", head / message).drops == {("a", Drop.ROGUE_RA): 1}
    assert not lab.copies()


def test_icmp_redirect_is_refused(lab: Lab) -> None:
    redirect = ICMP(type=5, code=1, gw="10.0.1.11") / IP(src="10.0.1.12", dst="10.0.2.11")
    assert lab.send("a", to("a", t.ip4("b"), t.mac("b")) / redirect).drop == Drop.ROGUE_RA


def test_unspecified_source_is_for_address_configuration_only(lab: Lab) -> None:
    """RFC 4291 2.5.2: `::` is a host's that has no address yet, so it pings nobody."""
    group = Ether(src=t.mac("a"), dst="33:33:00:00:00:01")
    packet = group / IPv6(src="::", dst="ff02::1") / ICMPv6EchoRequest()
    assert lab.send("a", packet).drop == Drop.SOURCE_ADDRESS
    assert not lab.copies()


def test_unspecified_source_needs_the_own_mac(lab: Lab) -> None:
    ask = Ether(src=t.mac("b"), dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255")
    assert lab.send("a", ask / UDP(sport=68, dport=67) / BOOTP()).drop == Drop.SOURCE_MAC


def test_unprogrammed_device_passes_nothing(lab: Lab) -> None:
    outcome = lab.send("stranger", udp("a", "b"))
    assert outcome.drops == {("node", Drop.NOT_PROGRAMMED): 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_removed_endpoint_is_closed_both_ways_at_once(lab: Lab, family: int) -> None:
    """Known flows do not outlive the endpoint (deletion order: its epoch, then its row)."""
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    reply = udp("b", "a", family, sport=5000, dport=40000)
    assert lab.send("b", reply).delivered_to == "a"
    lab.program(t.zone(without=["b"]))
    assert lab.send("b", reply).drop == Drop.NOT_PROGRAMMED
    outcome = lab.send("a", udp("a", "b", family))
    assert outcome.delivered_to is None
    assert "b" not in lab.copies()


@pytest.mark.parametrize("family", FAMILIES)
def test_tenant_may_use_udp_4789_like_any_port(lab: Lab, family: int) -> None:
    """From an endpoint it is tenant traffic: carried, never taken for a tunnel."""
    inner = bytes(udp("x", "y", family))
    vxlan = UDP(sport=4789, dport=4789) / (b"\x08\0\0\0" + t.RIVAL.to_bytes(3, "big") + b"\0")
    outcome = lab.send("a", to("a", t.ip("c", family), t.mac("c")) / vxlan / inner)
    assert outcome.tunnel.vni == t.WEB
    own_vtep = to("a", t.VTEPS[0]) / vxlan / inner
    assert lab.send("a", own_vtep).drop == Drop.NO_ROUTE


@pytest.mark.parametrize("family", FAMILIES)
def test_packet_to_its_own_source_is_refused(lab: Lab, family: int) -> None:
    assert lab.send("a", udp("a", "a", family)).drop == Drop.MALFORMED
