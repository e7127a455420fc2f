"""FRAGMENT: no fragment passes a rule that its first part did not pass."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN
from scapy.packet import Packet

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, l3, payload, tcp, udp
from tests.bpf.lab import Lab, vxlan

pytestmark = pytest.mark.privileged


def fragment(
    source: str,
    target: str,
    family: int,
    offset: int,
    rest: Packet | bytes,
    more: bool = True,
    id: int = 99,
    proto: int = 17,
) -> Packet:
    """`offset` in units of 8 bytes."""
    if family == 4:
        fields: dict[str, Any] = {
            "flags": "MF" if more else 0,
            "frag": offset,
            "id": id,
            "proto": proto,
        }
        return l3(source, target, 4, **fields) / rest
    head = l3(source, target, 6)
    return head / IPv6ExtHdrFragment(offset=offset, m=int(more), id=id, nh=proto) / rest


def first(source: str, target: str, family: int, dport: int = 5000, **more: Any) -> Packet:
    l4 = UDP(sport=40000, dport=dport, len=64, chksum=0x1234) / payload(24)
    return fragment(source, target, family, 0, l4, **more)


def later(source: str, target: str, family: int, offset: int = 4, **more: Any) -> Packet:
    more.setdefault("more", False)
    return fragment(source, target, family, offset, payload(32), **more)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "c", "d", "e"])
def test_fragments_in_order_pass(lab: Lab, family: int, target: str) -> None:
    for packet in (
        first("a", target, family),
        later("a", target, family, more=True),
        later("a", target, family, 8),
    ):
        outcome = lab.send("a", packet)
        assert outcome.verdict == 7 and not outcome.drops
        assert outcome.sent == {"a": 1}
        if target in "bd":
            assert outcome.delivered_to == target
        else:
            assert bytes(packet)[40:] in outcome.tunnel.inner
    assert len(lab.flows()) == 2, "all are one connection"
    assert lab.flow("a").packets == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_fragments_from_a_tunnel_pass_in_order(lab: Lab, family: int) -> None:
    assert lab.receive(vxlan(later("c", "b", family))).drop == Drop.FRAGMENT_FIRST
    assert lab.receive(vxlan(first("c", "b", family))).delivered_to == "b"
    assert lab.receive(vxlan(later("c", "b", family))).delivered_to == "b"


@pytest.mark.parametrize("family", FAMILIES)
def test_later_fragment_without_first_is_dropped(lab: Lab, family: int) -> None:
    assert lab.send("a", later("a", "b", family)).drops == {("a", Drop.FRAGMENT_FIRST): 1}
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    assert lab.send("a", later("a", "b", family)).drop == Drop.FRAGMENT_FIRST, "flow or not"
    assert lab.send("a", first("a", "b", family, id=98)).delivered_to == "b"
    assert lab.send("a", later("a", "b", family)).drop == Drop.FRAGMENT_FIRST, "another id"
    assert lab.send("b", later("b", "a", family, id=98)).drop == Drop.FRAGMENT_FIRST


@pytest.mark.parametrize("family", FAMILIES)
def test_later_fragments_share_the_verdict_of_the_first(lab: Lab, family: int) -> None:
    rule = {"name": "no", "action": "deny", "protocol": "udp", "ports": ["5001"]}
    lab.program(t.zone(t.shop(policies=[{"name": "p", "ingress": [rule]}])))
    assert lab.send("a", first("a", "b", family, 5001)).drop == Drop.POLICY_INGRESS
    assert lab.send("a", later("a", "b", family)).drop == Drop.FRAGMENT_FIRST
    assert lab.receive(vxlan(first("c", "b", family, 5001))).drop == Drop.POLICY_INGRESS
    assert lab.receive(vxlan(later("c", "b", family))).drop == Drop.FRAGMENT_FIRST


@pytest.mark.parametrize("family", FAMILIES)
def test_fragment_over_the_l4_header_is_dropped(lab: Lab, family: int) -> None:
    syn = TCP(sport=40000, dport=80, flags="S") / payload(12)
    assert lab.send("a", fragment("a", "b", family, 0, syn, proto=6)).delivered_to == "b"
    for offset in (1, 2):
        packet = later("a", "b", family, offset, proto=6)
        assert lab.send("a", packet).drop == Drop.FRAGMENT_OVERLAP
    assert lab.send("a", later("a", "b", family, 3, proto=6)).delivered_to == "b"


@pytest.mark.parametrize("family", FAMILIES)
def test_contradicting_first_fragment_is_dropped(lab: Lab, family: int) -> None:
    assert lab.send("a", first("a", "b", family)).delivered_to == "b"
    assert lab.send("a", first("a", "b", family, 5001)).drop == Drop.FRAGMENT_OVERLAP
    assert lab.send("a", first("a", "b", family)).delivered_to == "b", "a copy is no contradiction"
    assert lab.send("a", later("a", "b", family)).delivered_to == "b"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("proto", "rest"),
    [
        (6, bytes(TCP(sport=1, dport=2, flags="S"))[:8]),
        (6, bytes(TCP(sport=1, dport=2, flags="S"))[:16]),
        (6, bytes(TCP(sport=1, dport=2, flags="S", dataofs=10))[:20] + bytes(4)),
        (17, b""),
        (132, b""),
    ],
)
def test_tiny_first_fragment_is_dropped(lab: Lab, family: int, proto: int, rest: bytes) -> None:
    packet = fragment("a", "b", family, 0, rest, proto=proto)
    assert lab.send("a", packet).drop == Drop.FRAGMENT_TINY
    assert lab.send("a", later("a", "b", family, proto=proto)).drop == Drop.FRAGMENT_FIRST


@pytest.mark.parametrize("family", FAMILIES)
def test_first_fragment_without_icmp_header_is_tiny(lab: Lab, family: int) -> None:
    packet = fragment("a", "b", family, 0, b"", proto=1 if family == 4 else 58)
    assert lab.send("a", packet).drop == Drop.FRAGMENT_TINY


@pytest.mark.parametrize("family", FAMILIES)
def test_fragmented_echo_passes(lab: Lab, family: int) -> None:
    proto = 1 if family == 4 else 58
    assert lab.send("a", fragment("a", "b", family, 0, echo(family), proto=proto)).delivered_to
    assert lab.send("a", later("a", "b", family, proto=proto)).delivered_to == "b"
    answer = fragment("b", "a", family, 0, echo(family, reply=True), proto=proto)
    assert lab.send("b", answer).delivered_to == "a"
    assert lab.send("b", later("b", "a", family, proto=proto)).delivered_to == "a"


def test_fragmented_unsolicited_reply_is_dropped(lab: Lab) -> None:
    answer = fragment("b", "a", 4, 0, echo(reply=True), proto=1)
    assert lab.send("b", answer).drop == Drop.ICMP_UNRELATED
    assert lab.send("b", later("b", "a", 4, proto=1)).drop == Drop.FRAGMENT_FIRST


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_id_in_two_domains_never_crosses(lab: Lab, family: int) -> None:
    """x has the address of a and y that of b, in another domain on this node."""
    assert t.ip("x", family) == t.ip("a", family)
    assert lab.send("a", first("a", "b", family)).delivered_to == "b"
    assert lab.send("x", later("x", "y", family)).drop == Drop.FRAGMENT_FIRST
    assert lab.send("x", first("x", "y", family, 7)).delivered_to == "y"
    assert lab.send("a", later("a", "b", family)).delivered_to == "b"
    assert lab.flow("a").packets == 2
    assert lab.receive(vxlan(first("a", "b", family))).delivered_to == "b"
    tunnelled = vxlan(later("x", "y", family), vni=t.RIVAL)
    assert lab.receive(tunnelled).drop == Drop.FRAGMENT_FIRST


def test_first_fragment_is_forgotten_after_its_life(lab: Lab) -> None:
    assert lab.send("a", first("a", "b", 4)).delivered_to == "b"
    ((key, row),) = lab.rows("plum_frag").items()
    lab.write("plum_frag", key, row._replace(seen=row.seen - 31 * 10**9))
    assert lab.send("a", later("a", "b", 4)).drop == Drop.FRAGMENT_FIRST


def test_ipv4_and_ipv6_fragments_with_ext_headers_do_not_mix(lab: Lab) -> None:
    """A chain behind the fragment header belongs to the payload of later ones: their
    protocol is then that of the chain, and no first fragment answers to it."""
    options = IPv6ExtHdrDestOpt(nh=17, options=[PadN(optdata=b"\0" * 4)])
    rest = options / UDP(sport=40000, dport=5000) / payload(16)
    assert lab.send("a", fragment("a", "b", 6, 0, rest, proto=60)).delivered_to == "b"
    assert lab.send("a", later("a", "b", 6, 5, proto=60)).drop == Drop.FRAGMENT_FIRST


def test_mid_flow_first_fragment_makes_no_flow(lab: Lab) -> None:
    ack = TCP(sport=40000, dport=80, flags="A") / payload(12)
    assert lab.send("a", fragment("a", "b", 4, 0, ack, proto=6)).drop == Drop.TCP_NO_HANDSHAKE
    assert lab.send("a", later("a", "b", 4, 4, proto=6)).drop == Drop.FRAGMENT_FIRST


def test_fragments_to_a_router_are_not_answered(lab: Lab) -> None:
    packet = l3("a", "b", 4, flags="MF") / ICMP() / payload(16)
    packet.dst = t.ONE_MAC
    packet.payload.dst = t.gateway("web")
    assert lab.send("a", packet).drop == Drop.RESPONDER


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_packets_of_the_flow_stay_unaffected(lab: Lab, family: int) -> None:
    assert lab.send("a", first("a", "b", family)).delivered_to == "b"
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    assert lab.send("b", tcp("b", "a", "S", family)).delivered_to == "a"
