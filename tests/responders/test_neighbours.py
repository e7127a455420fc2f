"""A gateway's neighbours: asked, remembered, forgotten; and told who we are."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether

from daemon.responders import neighbours as module
from daemon.responders.neighbours import Neighbours, Segment

MAC, PEER = "02:ee:00:00:00:01", "02:ee:00:00:00:fe"
ROUTER4, ROUTER6 = ip_address("198.51.100.254"), ip_address("2001:db8:51::fe")
OWN = (ip_address("198.51.100.1"), ip_address("2001:db8:51::1"))
VNI = 7001


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def segment(claims: frozenset[Any] = frozenset(), vlan: int = 0) -> Segment:
    return Segment("internet", VNI, 5, raw(MAC), vlan, OWN, (ROUTER4, ROUTER6), claims)


class Street:
    """What is sent, and what is known."""

    def __init__(self) -> None:
        self.sent: list[Ether] = []
        self.known: dict[Any, bytes | None] = {}
        self.agent = Neighbours(self._send, self._know, lambda vni, address: address)

    def _send(self, ifindex: int, frame: bytes) -> None:
        assert ifindex == 5
        self.sent.append(Ether(frame))

    def _know(self, vni: int, address: Any, mac: bytes | None, now_ns: int) -> None:
        assert vni == VNI
        self.known[address] = mac

    def take(self) -> list[Ether]:
        taken, self.sent = self.sent, []
        return taken


@pytest.fixture
def street() -> Street:
    return Street()


def arp_reply(address: Any, mac: str = PEER) -> bytes:
    arp = ARP(op=2, hwsrc=mac, psrc=str(address), hwdst=MAC, pdst=str(OWN[0]))
    return bytes(Ether(src=mac, dst=MAC) / arp)


def advert(address: Any, hlim: int = 255) -> bytes:
    head = Ether(src=PEER, dst=MAC) / IPv6(src=str(address), dst=str(OWN[1]), hlim=hlim)
    return bytes(head / ICMPv6ND_NA(tgt=str(address)) / ICMPv6NDOptDstLLAddr(lladdr=PEER))


def test_next_hops_are_asked_for_at_once_in_both_families(street: Street) -> None:
    street.agent.serve([segment()])
    arp, nd = street.take()
    assert (arp[ARP].op, arp[ARP].pdst, arp[ARP].psrc) == (1, str(ROUTER4), str(OWN[0]))
    assert arp.dst == "ff:ff:ff:ff:ff:ff" and arp.src == MAC
    assert nd[ICMPv6ND_NS].tgt == str(ROUTER6) and nd[IPv6].hlim == 255
    assert nd.dst == "33:33:ff:00:00:fe" and nd[ICMPv6NDOptSrcLLAddr].lladdr == MAC
    good = nd[ICMPv6ND_NS].cksum
    del nd[ICMPv6ND_NS].cksum
    assert Ether(bytes(nd))[ICMPv6ND_NS].cksum == good


def test_answers_are_remembered_and_kept_fresh(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.agent.serve([segment()])
    street.agent.heard(5, 0, arp_reply(ROUTER4))
    street.agent.heard(5, 0, advert(ROUTER6))
    assert street.known == {ROUTER4: raw(PEER), ROUTER6: raw(PEER)}
    street.take()
    street.agent.tick()
    assert not street.take()  # too early
    later = time.monotonic() + module.ASK_AGAIN_S + 0.1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    street.agent.tick()
    assert len(street.take()) == 2
    much_later = later + module.FORGET_S
    monkeypatch.setattr(module.time, "monotonic", lambda: much_later)
    street.agent.tick()
    assert street.known == {ROUTER4: None, ROUTER6: None}


def test_only_what_was_asked_for_is_believed(street: Street) -> None:
    street.agent.serve([segment(frozenset({ip_address("198.51.100.130")}), vlan=100)])
    for ifindex, vlan, frame in (
        (5, 100, arp_reply(ip_address("198.51.100.77"))),  # nobody asked
        (5, 100, arp_reply(OWN[0])),  # ours
        (5, 100, arp_reply(ip_address("198.51.100.130"))),  # ours as well
        (5, 0, arp_reply(ROUTER4)),  # another tag
        (6, 100, arp_reply(ROUTER4)),  # another device
        (5, 100, advert(ROUTER6, hlim=254)),  # routed: from elsewhere
        (5, 100, b"\0" * 14),
    ):
        street.agent.heard(ifindex, vlan, frame)
    assert not street.known


def test_a_packet_waits_for_its_neighbour(street: Street) -> None:
    street.agent.serve([segment(vlan=100)])
    street.take()
    target = IPv4Address("198.51.100.77")
    frame = bytes(Ether(src=MAC, dst=MAC) / IP(dst=str(target)) / UDP(dport=7))
    street.agent.wanted(VNI, frame)
    asked = street.take()
    assert [packet[ARP].pdst for packet in asked] == [str(target)]
    assert asked[0][Dot1Q].vlan == 100
    street.agent.heard(5, 100, arp_reply(target))
    (released,) = street.take()
    assert (released.src, released.dst, released[Dot1Q].vlan) == (MAC, PEER, 100)
    assert released[IP].dst == str(target)
    assert street.known[target] == raw(PEER)


def test_a_host_outside_is_kept_while_it_answers(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its MAC may change without a word, and nobody it is asked for is remembered for ever."""
    street.agent.serve([segment()])
    target = IPv4Address("198.51.100.77")
    street.agent.wanted(VNI, bytes(Ether() / IP(dst=str(target)) / UDP()))
    street.agent.heard(5, 0, arp_reply(target))
    street.take()
    start = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: start + module.ASK_AGAIN_S + 1)
    street.agent.tick()
    assert str(target) in [packet[ARP].pdst for packet in street.take() if ARP in packet]
    street.agent.heard(5, 0, arp_reply(target, "02:ee:00:00:00:77"))
    assert street.known[target] == raw("02:ee:00:00:00:77")
    late = start + module.ASK_AGAIN_S + 1 + module.REMEMBER_S + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: late)
    for _ in range(2):
        street.agent.tick()
    assert street.known[target] is None
    assert str(target) not in [packet[ARP].pdst for packet in street.take() if ARP in packet]
    assert (VNI, target) not in street.agent._asked


def test_new_addresses_are_announced_and_old_ones_are_not(street: Street) -> None:
    first = frozenset({ip_address("198.51.100.130"), ip_address("2001:db8:51::230")})
    street.agent.serve([segment(first)])
    told = street.take()
    arps = [p[ARP] for p in told if ARP in p and p[ARP].psrc == p[ARP].pdst]
    adverts = [p[ICMPv6ND_NA] for p in told if ICMPv6ND_NA in p]
    assert [a.psrc for a in arps] == ["198.51.100.130"]
    assert [(a.tgt, a.O) for a in adverts] == [("2001:db8:51::230", 1)]
    for _ in range(module.ANNOUNCEMENTS):
        street.agent.tick()
    street.take()
    street.agent.serve([segment(first | {IPv6Address("2001:db8:51::231")})])
    assert [p[ICMPv6ND_NA].tgt for p in street.take() if ICMPv6ND_NA in p] == ["2001:db8:51::231"]


def test_a_flood_of_unknown_neighbours_is_bounded(street: Street) -> None:
    street.agent.serve([segment()])
    for number in range(2 * module.MOST_WAITING):
        frame = bytes(Ether() / IP(dst=f"198.51.{number >> 8}.{number & 255}") / UDP())
        street.agent.wanted(VNI, frame)
    assert len(street.agent._waiting) == module.MOST_WAITING
