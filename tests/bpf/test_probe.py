"""PROBE: a VTEP of the zone gets its own question back, and nobody else anything."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from daemon.abi import PLUM_PROBE_VNI, Drop
from daemon.compiler.result import Outside
from tests.bpf import topology as t
from tests.bpf.frames import checked
from tests.bpf.lab import NEXT_HOP, PATH_MAC, REDIRECT, Lab, vxlan
from tests.bpf.outside import EXT_VNI, zone_with_uplink

pytestmark = pytest.mark.privileged

HEAD = b"\x08\0\0\0" + PLUM_PROBE_VNI.to_bytes(3, "big") + b"\0"


def question(source: str, target: str, sport: int = 40000, network: int = 0) -> Packet:
    ip = IPv6(src=source, dst=target) if ":" in source else IP(src=source, dst=target)
    payload = HEAD + bytes(range(16)) + network.to_bytes(4, "big") + bytes(range(12))
    eth = Ether(src=NEXT_HOP[2], dst=PATH_MAC)
    return eth / ip / UDP(sport=sport, dport=4789) / Raw(payload)


@pytest.mark.parametrize("vteps", [t.VTEPS, t.VTEPS6], ids=["underlay4", "underlay6"])
def test_a_vteps_question_comes_back_with_its_ends_swapped(
    lab: Lab, vteps: tuple[str, ...]
) -> None:
    lab.program(t.zone(vteps=vteps))
    asked = Ether(bytes(question(vteps[1], vteps[0])))
    out = lab.receive(asked)
    assert (out.verdict, out.drops) == (REDIRECT, {})
    answer = checked(out.frame)
    layer = IPv6 if ":" in vteps[0] else IP
    assert (answer.src, answer.dst) == (PATH_MAC, NEXT_HOP[2])
    assert (answer[layer].src, answer[layer].dst) == (vteps[0], vteps[1])
    assert (answer[UDP].sport, answer[UDP].dport) == (4789, 40000)
    assert bytes(answer[UDP].payload) == bytes(asked[UDP].payload)
    assert len(out.frame) == len(bytes(asked))


def test_strangers_and_echoes_of_echoes_get_no_answer(lab: Lab) -> None:
    for packet, reason in (
        (question("192.0.2.66", t.VTEPS[0]), Drop.VTEP),
        (question(t.VTEPS[1], t.VTEPS[0], sport=4789), Drop.VXLAN),
    ):
        out = lab.receive(packet)
        assert out.drops == {("node", reason): 1}
        assert out.verdict != REDIRECT


def test_what_is_not_for_our_vtep_is_the_hosts(lab: Lab) -> None:
    assert lab.receive(question(t.VTEPS[1], t.VTEPS[2])).verdict == 0


def test_a_guest_cannot_ask(lab: Lab) -> None:
    """Its frames leave in its bridge's VNI only."""
    inner = question(t.ip4("a"), t.ip4("c"))
    inner[Ether].src, inner[Ether].dst = t.mac("a"), t.mac("c")
    assert lab.send("a", inner).tunnel.vni == t.WEB


def test_the_lookalike_of_a_frame_inside_is_not_looked_at(lab: Lab) -> None:
    frame = vxlan(Ether(src=t.mac("c"), dst=t.mac("a")) / IP() / UDP(), vni=PLUM_PROBE_VNI)
    assert not lab.receive(frame).received


def test_a_network_is_answered_for_by_its_gateway_while_its_device_works(lab: Lab) -> None:
    asked = question(t.VTEPS[1], t.VTEPS[0], network=EXT_VNI)
    assert lab.receive(asked).drop is Drop.NO_GATEWAY
    here = Outside("internet", lab.ifindex["outside"], "02:ee:00:00:00:01")
    lab.program(zone_with_uplink(("n1", "n2")), outside=(here,))
    assert lab.receive(asked).verdict == REDIRECT
    lab.program(zone_with_uplink(("n1", "n2")))
    assert lab.receive(asked).drop is Drop.NO_GATEWAY
