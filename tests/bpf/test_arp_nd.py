"""ARP_ND: questions answered from the zone's state, claims checked."""

from __future__ import annotations

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from daemon.abi import Drop
from daemon.model.mac import link_local
from tests.bpf import topology as t
from tests.bpf.frames import checked, payload
from tests.bpf.lab import REDIRECT, SHOT, Lab, vxlan

pytestmark = pytest.mark.privileged

ALL = "ff:ff:ff:ff:ff:ff"


def arp(source: str, target: str, op: int = 1, **more: object) -> Packet:
    fields = {"hwsrc": t.mac(source), "psrc": t.ip4(source), "hwdst": "00:00:00:00:00:00", **more}
    return Ether(src=t.mac(source), dst=ALL) / ARP(op=op, pdst=target, **fields)


def solicit(source: str, target: str, src: str | None = None, *options: Packet) -> Packet:
    last = int(target.rsplit(":", 1)[-1] or "0", 16) if "::" in target else 0
    group = f"ff02::1:ff00:{last:x}"
    head = Ether(src=t.mac(source), dst=f"33:33:ff:00:{last >> 8:02x}:{last & 255:02x}")
    packet = head / IPv6(src=src or t.ip6(source), dst=group, hlim=255) / ICMPv6ND_NS(tgt=target)
    for option in options or (() if src == "::" else (ICMPv6NDOptSrcLLAddr(lladdr=t.mac(source)),)):
        packet /= option
    return packet


OWNERS = [
    (t.ip4("b"), t.ip6("b"), t.mac("b"), 0),  # here
    (t.ip4("c"), t.ip6("c"), t.mac("c"), 0),  # on another node
    (t.gateway("web"), t.gateway("web", 6), t.ONE_MAC, 1),
    ("10.0.1.100", "2001:db8:1::100", t.mac("p"), 0),  # a pair
]


@pytest.mark.parametrize(("address", "mac"), [(o[0], o[2]) for o in OWNERS])
def test_arp_request_is_answered_in_place(lab: Lab, address: str, mac: str) -> None:
    outcome = lab.send("a", arp("a", address))
    want = Ether(src=mac, dst=t.mac("a")) / ARP(
        op=2, hwsrc=mac, psrc=address, hwdst=t.mac("a"), pdst=t.ip4("a")
    )
    assert outcome.answered
    assert outcome.frame == bytes(want)
    assert not lab.copies() and not outcome.drops


@pytest.mark.parametrize(("address", "mac", "router"), [o[1:] for o in OWNERS])
def test_solicitation_is_answered_in_place(lab: Lab, address: str, mac: str, router: int) -> None:
    outcome = lab.send("a", solicit("a", address))
    head = Ether(src=mac, dst=t.mac("a")) / IPv6(src=address, dst=t.ip6("a"), hlim=255)
    advert = ICMPv6ND_NA(tgt=address, R=router, S=1, O=1)
    assert outcome.answered
    assert outcome.frame == bytes(head / advert / ICMPv6NDOptDstLLAddr(lladdr=mac))
    checked(outcome.frame)
    assert not lab.copies()


def test_router_answers_for_its_link_local_address(lab: Lab) -> None:
    address = str(link_local(t.ONE_MAC))
    packet = Ether(src=t.mac("a"), dst="33:33:ff:00:00:1f") / IPv6(
        src=t.lla("a"), dst="ff02::1:ff00:1f", hlim=255
    )
    outcome = lab.send("a", packet / ICMPv6ND_NS(tgt=address))
    assert outcome.answered
    assert checked(outcome.frame)[ICMPv6ND_NA].R == 1
    # On a bridge that router has no interface on, nobody has it.
    packet[Ether].src, packet[IPv6].src = t.mac("z"), t.lla("z")
    assert lab.send("z", packet / ICMPv6ND_NS(tgt=address)).verdict == SHOT


def test_unicast_solicitation_is_answered_too(lab: Lab) -> None:
    """Neighbour unreachability detection (RFC 4861 7.3)."""
    packet = Ether(src=t.mac("a"), dst=t.mac("b")) / IPv6(src=t.ip6("a"), dst=t.ip6("b"), hlim=255)
    outcome = lab.send("a", packet / ICMPv6ND_NS(tgt=t.ip6("b")))
    assert outcome.answered and checked(outcome.frame)[ICMPv6ND_NA].S == 1


def test_solicitation_behind_a_hop_by_hop_header_is_answered(lab: Lab) -> None:
    packet = Ether(src=t.mac("a"), dst=t.mac("b")) / IPv6(src=t.ip6("a"), dst=t.ip6("b"), hlim=255)
    packet /= IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
    outcome = lab.send("a", packet / ICMPv6ND_NS(tgt=t.ip6("b")))
    assert outcome.answered
    assert checked(outcome.frame)[ICMPv6ND_NA].tgt == t.ip6("b")


def test_duplicate_address_detection_is_told_of_the_owner(lab: Lab) -> None:
    outcome = lab.send("a", solicit("a", t.ip6("b"), "::"))
    answer = checked(outcome.frame)
    assert outcome.answered
    assert (answer[Ether].dst, answer[IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
    assert (answer[ICMPv6ND_NA].S, answer[ICMPv6ND_NA].O) == (0, 1)
    probe = lab.send("a", arp("a", t.ip4("b"), psrc="0.0.0.0"))
    assert probe.answered
    assert (probe.packet[ARP].psrc, probe.packet[ARP].pdst) == (t.ip4("b"), "0.0.0.0")


def test_duplicate_address_detection_for_the_own_address_meets_silence(lab: Lab) -> None:
    for packet in (
        solicit("a", t.ip6("a"), "::"),
        arp("a", t.ip4("a"), psrc="0.0.0.0"),
    ):
        outcome = lab.send("a", packet)
        assert (outcome.verdict, outcome.drops) == (SHOT, {})
        assert not lab.copies()


@pytest.mark.parametrize("address", ["10.0.1.77", "2001:db8:1::77"])
def test_unknown_target_is_flooded(lab: Lab, address: str) -> None:
    packet = solicit("a", address) if ":" in address else arp("a", address)
    outcome = lab.send("a", packet)
    copies = lab.copies()
    assert (outcome.verdict, outcome.drops) == (SHOT, {})
    assert {k: len(v) for k, v in copies.items()} == {"b": 1, "p": 1, "underlay": 2}
    assert copies["b"][0][: len(packet)] == bytes(packet)


@pytest.mark.parametrize("address", ["10.0.2.11", "2001:db8:2::11", "10.0.9.2"])
def test_address_of_another_bridge_is_nobodys(lab: Lab, address: str) -> None:
    packet = solicit("a", address) if ":" in address else arp("a", address)
    assert not lab.send("a", packet).answered
    assert not lab.send("x", arp("x", "10.0.1.15")).answered, "or of another domain"


SPOOFS = {
    "sender's address": arp("a", "10.0.1.77", psrc=t.ip4("b")),
    "sender's MAC": arp("a", "10.0.1.77", hwsrc=t.mac("b")),
    "gratuitous request": arp("a", t.ip4("b"), psrc=t.ip4("b")),
    "gratuitous reply": arp("a", t.ip4("b"), 2, psrc=t.ip4("b")),
    "gateway": arp("a", t.gateway("web"), 2, psrc=t.gateway("web")),
    "reply without address": arp("a", t.ip4("b"), 2, psrc="0.0.0.0"),
}


@pytest.mark.parametrize("packet", SPOOFS.values(), ids=SPOOFS)
def test_spoofed_arp_is_dropped(lab: Lab, packet: Packet) -> None:
    outcome = lab.send("a", packet)
    assert outcome.drops == {("a", Drop.ARP_SPOOF): 1}
    assert not lab.copies()


def test_arp_probe_comes_from_the_own_mac(lab: Lab) -> None:
    """It claims no address, but its MAC is a claim too."""
    packet = arp("a", "10.0.1.77", psrc="0.0.0.0", hwsrc=t.mac("b"))
    packet[Ether].src = t.mac("b")
    assert lab.send("a", packet).drop in (Drop.ARP_SPOOF, Drop.SOURCE_MAC)
    assert not lab.copies()


@pytest.mark.parametrize("op", [1, 2])
def test_own_gratuitous_arp_is_flooded(lab: Lab, op: int) -> None:
    assert lab.send("a", arp("a", t.ip4("a"), op)).verdict == SHOT
    assert set(lab.copies()) == {"b", "p", "underlay"}


def test_answer_to_a_flooded_request_reaches_its_asker(lab: Lab) -> None:
    reply = arp("a", t.ip4("b"), 2, hwdst=t.mac("b"))
    reply[Ether].dst = t.mac("b")
    assert lab.send("a", reply).delivered_to == "b"
    reply[Ether].dst = t.mac("c")
    outcome = lab.send("a", reply)
    assert outcome.verdict == REDIRECT
    assert outcome.tunnel.inner[: len(reply)] == bytes(reply)
    # The receiving node takes it out again (padded, so that it can be shrunk).
    back = arp("c", t.ip4("b"), 2, hwdst=t.mac("b"))
    back[Ether].dst = t.mac("b")
    received = lab.receive(vxlan(bytes(back).ljust(60, b"\0")))
    assert received.delivered_to == "b"
    assert received.frame[: len(back)] == bytes(back)


MALFORMED_ARP = {
    "hardware": {"hwtype": 6},
    "protocol": {"ptype": 0x86DD},
    "hardware length": {"hwlen": 8},
    "protocol length": {"plen": 16},
    "operation": {"op": 3},
}


@pytest.mark.parametrize("fields", MALFORMED_ARP.values(), ids=MALFORMED_ARP)
def test_malformed_arp_is_dropped(lab: Lab, fields: dict[str, int]) -> None:
    packet = bytearray(bytes(arp("a", t.ip4("b"))))
    at = {"hwtype": (14, 2), "ptype": (16, 2), "hwlen": (18, 1), "plen": (19, 1), "op": (20, 2)}
    for name, value in fields.items():
        offset, size = at[name]
        packet[offset : offset + size] = value.to_bytes(size, "big")
    assert lab.send("a", bytes(packet)).drop == Drop.MALFORMED


def test_short_arp_is_truncated(lab: Lab) -> None:
    assert lab.send("a", bytes(arp("a", t.ip4("b")))[:41]).drop == Drop.TRUNCATED


def advert(source: str, target: str, lladdr: str | None = None, src: str | None = None) -> Packet:
    head = Ether(src=t.mac(source), dst="33:33:00:00:00:01")
    packet = head / IPv6(src=src or t.ip6(source), dst="ff02::1", hlim=255)
    packet /= ICMPv6ND_NA(tgt=target, R=0, S=0)
    return packet / ICMPv6NDOptDstLLAddr(lladdr=lladdr or t.mac(source))


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (advert("a", t.ip6("b")), Drop.ND_SPOOF),
        (advert("a", t.gateway("web", 6)), Drop.ND_SPOOF),
        (advert("a", t.ip6("a"), t.mac("b")), Drop.ND_SPOOF),
        (advert("a", t.ip6("b"), src=t.ip6("b")), Drop.SOURCE_ADDRESS),
        (advert("a", t.ip6("b"), src="::"), Drop.ND_SPOOF),
        (
            solicit("a", t.ip6("b"), None, ICMPv6NDOptSrcLLAddr(lladdr=t.mac("p"))),
            Drop.ND_SPOOF,
        ),
        (
            solicit(
                "a", t.ip6("b"), None, ICMPv6NDOptSrcLLAddr(len=2, lladdr=t.mac("a")) / (b"\0" * 8)
            ),
            Drop.ND_SPOOF,
        ),
    ],
)
def test_spoofed_neighbour_discovery_is_dropped(lab: Lab, packet: Packet, reason: Drop) -> None:
    assert lab.send("a", packet).drops == {("a", reason): 1}
    assert not lab.copies()


def test_own_advertisement_is_flooded_and_sent(lab: Lab) -> None:
    assert lab.send("a", advert("a", t.ip6("a"))).verdict == SHOT
    assert set(lab.copies()) == {"b", "p", "underlay"}
    packet = advert("a", t.ip6("a"))
    packet[Ether].dst, packet[IPv6].dst = t.mac("b"), t.ip6("b")
    assert lab.send("a", packet).delivered_to == "b"
    assert not lab.flows()


def test_neighbour_discovery_meets_no_policy(lab: Lab) -> None:
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "deny"})))
    assert lab.send("a", solicit("a", t.ip6("b"))).answered
    packet = advert("a", t.ip6("a"))
    packet[Ether].dst, packet[IPv6].dst = t.mac("b"), t.ip6("b")
    assert lab.send("a", packet).delivered_to == "b"


def test_fragmented_neighbour_discovery_is_dropped(lab: Lab) -> None:
    """RFC 6980: nodes ignore it, so only an attacker sends it past the checks."""
    for message in (ICMPv6ND_NA(tgt=t.ip6("p")), ICMPv6ND_NS(tgt=t.ip6("p"))):
        packet = Ether(src=t.mac("a"), dst=t.mac("b"))
        packet /= IPv6(src=t.ip6("a"), dst=t.ip6("b"), hlim=255) / IPv6ExtHdrFragment(m=1, id=9)
        assert lab.send("a", packet / message / payload(8)).drop == Drop.ND_SPOOF
    atomic = Ether(src=t.mac("a"), dst=t.mac("b")) / IPv6(src=t.ip6("a"), dst=t.ip6("b"), hlim=255)
    atomic /= IPv6ExtHdrFragment(m=0, id=9) / ICMPv6ND_NA(tgt=t.ip6("p"))
    assert lab.send("a", atomic).drop == Drop.ND_SPOOF


def _ns(hlim: int = 255, code: int = 0, rest: bytes = b"") -> Packet:
    packet = Ether(src=t.mac("a"), dst=t.mac("b")) / IPv6(src=t.ip6("a"), dst=t.ip6("b"), hlim=hlim)
    return packet / ICMPv6ND_NS(tgt=t.ip6("b"), code=code) / rest


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (_ns(hlim=254), Drop.MALFORMED),
        (_ns(code=1), Drop.MALFORMED),
        (_ns(rest=b"\x01\x00" + bytes(6)), Drop.MALFORMED),  # option of no length
        (_ns(rest=b"\x01\x01\x02"), Drop.TRUNCATED),
        (_ns(rest=b"\x0e\x02" + bytes(6)), Drop.TRUNCATED),
        (_ns(rest=(b"\x0e\x01" + bytes(6)) * 5), Drop.ND_SPOOF),
    ],
)
def test_malformed_neighbour_discovery_is_dropped(lab: Lab, packet: Packet, reason: Drop) -> None:
    assert lab.send("a", packet).drop == reason


def test_other_options_are_looked_through(lab: Lab) -> None:
    options = (
        ICMPv6NDOptUnknown(type=14, len=1, data=b"nonce!"),
        ICMPv6NDOptPrefixInfo(),
        ICMPv6NDOptSrcLLAddr(lladdr=t.mac("a")),
    )
    assert lab.send("a", solicit("a", t.ip6("b"), None, *options)).answered
    forged = (*options[:2], ICMPv6NDOptSrcLLAddr(lladdr=t.mac("b")))
    assert lab.send("a", solicit("a", t.ip6("b"), None, *forged)).drop == Drop.ND_SPOOF


def test_truncated_solicitation_is_dropped(lab: Lab) -> None:
    packet = bytearray(bytes(_ns())[:-4])
    packet[18:20] = (20).to_bytes(2, "big")
    assert lab.send("a", bytes(packet)).drop == Drop.TRUNCATED
