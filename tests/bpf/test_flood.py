"""FLOOD: who gets a copy of broadcast, multicast and unknown unicast."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.abi import Drop, EpKey
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, payload, to
from tests.bpf.lab import NEXT_HOP, SHOT, Lab, Outcome, vxlan
from tests.bpf.test_tunnel import without_port, wrapped

pytestmark = pytest.mark.privileged


def group(source: str, family: int, dport: int = 5353, size: int = 40) -> Packet:
    if family == 4:
        head = Ether(src=t.mac(source), dst="01:00:5e:00:00:fb") / IP(
            src=t.ip4(source), dst="224.0.0.251", ttl=1
        )
    else:
        head = Ether(src=t.mac(source), dst="33:33:00:00:00:fb") / IPv6(
            src=t.ip6(source), dst="ff02::fb", hlim=1
        )
    return head / UDP(sport=5353, dport=dport) / payload(size)


def to_broadcast(source: str) -> Packet:
    head = Ether(src=t.mac(source), dst="ff:ff:ff:ff:ff:ff")
    return head / IP(src=t.ip4(source), dst="10.0.1.255") / UDP(sport=1, dport=2) / payload(20)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("underlay", [4, 6])
def test_every_other_member_gets_one_copy(lab: Lab, family: int, underlay: int) -> None:
    vteps = t.VTEPS if underlay == 4 else t.VTEPS6
    lab.program(t.zone(vteps=vteps))
    packet = group("a", family)
    outcome = lab.send("a", packet)
    copies = lab.copies()
    assert (outcome.verdict, outcome.drops) == (SHOT, {})
    assert outcome.received == {"b": 1, "p": 1} and outcome.sent == {"a": 1}
    assert copies.pop("b") == copies.pop("p") == [bytes(packet)]
    remote = copies.pop("underlay")
    assert [without_port(f) for f in remote] == [
        wrapped(packet, t.WEB, vteps, node) for node in (2, 3)
    ]
    assert not copies
    assert not lab.flows(), "multicast makes no flows"


@pytest.mark.parametrize("family", FAMILIES)
def test_copy_from_a_tunnel_stays_on_the_node(lab: Lab, family: int) -> None:
    packet = group("c", family)
    outcome = lab.receive(vxlan(packet))
    copies = lab.copies()
    assert outcome.verdict == SHOT and not outcome.drops
    assert copies == {name: [bytes(packet)] for name in ("a", "b", "p")}


def test_broadcast_and_unknown_unicast_are_flooded(lab: Lab) -> None:
    unknown = to_broadcast("a")
    unknown.dst = "02:00:00:00:00:99"
    for packet in (to_broadcast("a"), unknown):
        lab.send("a", packet)
        assert set(lab.copies()) == {"b", "p", "underlay"}


def test_other_domains_and_bridges_hear_nothing(lab: Lab) -> None:
    lab.send("x", to_broadcast("x"))
    assert set(lab.copies()) == {"y"}


@pytest.mark.parametrize("family", FAMILIES)
def test_policies_choose_who_hears(lab: Lab, family: int) -> None:
    rule = {"name": "no", "action": "deny", "protocol": "udp", "ports": ["5353"]}
    policies = [{"name": "p", "applies_to": "servers", "ingress": [rule]}]
    lab.program(t.zone(t.shop(policies=policies)))
    outcome = lab.send("a", group("a", family))
    assert outcome.drops == {("b", Drop.POLICY_INGRESS): 1}
    assert set(lab.copies()) == {"p", "underlay"}
    assert lab.receive(vxlan(group("c", family))).drops == {("b", Drop.POLICY_INGRESS): 1}
    assert set(lab.copies()) == {"a", "p"}
    lab.program(t.zone(t.shop(policies=[{"name": "p", "egress": [rule]}])))
    assert lab.send("a", group("a", family)).drops == {("a", Drop.POLICY_EGRESS): 1}
    assert not lab.copies()


def test_bridge_without_flooding_drops(lab: Lab) -> None:
    packet = Ether(src=t.mac("q"), dst="ff:ff:ff:ff:ff:ff") / IP(
        src=t.ip4("q"), dst="255.255.255.255"
    )
    assert lab.send("q", packet / UDP()).drops == {("q", Drop.FLOOD_OFF): 1}
    inner = packet / UDP() / payload(20)
    assert lab.receive(vxlan(inner, vni=t.DARK)).drop == Drop.FLOOD_OFF


@pytest.mark.parametrize("family", FAMILIES)
def test_flooded_packet_over_the_mtu_is_dropped_in_silence(lab: Lab, family: int) -> None:
    assert lab.send("a", group("a", family, size=1550)).drop == Drop.MTU
    assert not lab.copies()


def test_reports_of_listeners_end_at_the_bridge(lab: Lab) -> None:
    igmp = Ether(src=t.mac("a"), dst="01:00:5e:00:00:16")
    igmp /= IP(src=t.ip4("a"), dst="224.0.0.22", proto=2, ttl=1) / payload(16)
    mld = Ether(src=t.mac("a"), dst="33:33:00:00:00:16")
    mld /= IPv6(src=t.lla("a"), dst="ff02::16", hlim=1)
    mld /= IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()
    for packet in (igmp, mld):
        outcome = lab.send("a", packet)
        assert (outcome.verdict, outcome.drops) == (SHOT, {})
        assert not lab.copies()


def test_copies_go_the_last_way_known_when_plumd_is_long_dead(lab: Lab) -> None:
    lab.refresh_paths(11.0)
    outcome = lab.send("a", group("a", 4))
    assert not outcome.drops
    assert len(lab.copies()["underlay"]) == 2


def test_node_without_path_is_counted_and_the_others_are_served(lab: Lab) -> None:
    lab.forget_paths()
    lab.refresh_paths(nodes=(3,))
    outcome = lab.send("a", group("a", 4))
    assert outcome.drops == {("a", Drop.NO_PATH): 1}
    copies = lab.copies()
    assert set(copies) == {"b", "p", "underlay"}
    assert [frame[:6].hex(":") for frame in copies["underlay"]] == [NEXT_HOP[3]]


def test_member_that_is_gone_gets_nothing(lab: Lab) -> None:
    lab.erase("plum_ep", EpKey(lab.ifindex["b"]))
    lab.send("a", group("a", 4))
    assert set(lab.copies()) == {"p", "underlay"}


def test_fragmented_multicast_is_carried_in_order(lab: Lab) -> None:
    head = Ether(src=t.mac("a"), dst="01:00:5e:00:00:fb")
    ip = {"src": t.ip4("a"), "dst": "224.0.0.251", "id": 5}
    later = head / IP(**ip, frag=3, proto=17) / payload(24)
    assert lab.send("a", later).drop == Drop.FRAGMENT_FIRST
    first = head / IP(**ip, flags="MF") / UDP(sport=1, dport=2, len=48) / payload(16)
    assert _heard(lab, lab.send("a", first)) == {"b", "p", "underlay"}
    assert _heard(lab, lab.send("a", later)) == {"b", "p", "underlay"}


def _heard(lab: Lab, outcome: Outcome) -> set[str]:
    assert not outcome.drops
    return set(lab.copies())


@pytest.mark.parametrize("flags", ["A", "SA", "R"])
@pytest.mark.parametrize("dmac", ["ff:ff:ff:ff:ff:ff", "02:00:00:00:00:99"])
def test_tcp_in_mid_flow_is_not_flooded(lab: Lab, flags: str, dmac: str) -> None:
    """A group MAC is no way around the handshake."""
    packet = Ether(src=t.mac("a"), dst=dmac) / IP(src=t.ip4("a"), dst=t.ip4("b"))
    assert lab.send("a", packet / TCP(flags=flags)).drop == Drop.TCP_NO_HANDSHAKE
    assert not lab.copies()


@pytest.mark.parametrize("family", FAMILIES)
def test_icmp_answers_and_errors_are_not_flooded(lab: Lab, family: int) -> None:
    packet = Ether(src=t.mac("a"), dst="ff:ff:ff:ff:ff:ff")
    head = packet / to("a", t.ip("b", family)).payload
    asked = head / echo(family)
    assert _heard(lab, lab.send("a", asked)) == {"b", "p", "underlay"}
    wrong = ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach(code=4)
    for message in (echo(family, reply=True), wrong / bytes(asked)[14:]):
        assert lab.send("a", head / message).drop == Drop.ICMP_UNRELATED
        assert lab.receive(vxlan(head / message)).drop == Drop.ICMP_UNRELATED
        assert not lab.copies()
