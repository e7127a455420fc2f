"""The fast path is an optimisation: what it does, the slow path does too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, checked, echo, l3, payload, tcp, udp
from tests.bpf.lab import REDIRECT, Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged

TARGETS = ("b", "c", "d", "e", "q", "z")


def run(lab: Lab, source: str, target: str, packet: Packet) -> Outcome:
    """From an endpoint, or out of a tunnel when the source is elsewhere."""
    if t.PLACES[source][2] == "n1":
        return lab.send(source, packet)
    return lab.receive(vxlan(packet))


def same(one: Outcome, other: Outcome) -> bool:
    """Alike in all but the hits: a decision is counted when it is made."""
    return replace(one, hits={}) == replace(other, hits={})


def establish(lab: Lab, source: str, target: str, family: int) -> None:
    syn = tcp(source, target, "S", family, 999)
    back = tcp(target, source, "SA", family, 8999, 1000, 80, 40000)
    run(lab, source, target, syn)
    if t.PLACES[target][2] == "n1":
        run(lab, target, source, back)
    else:
        if t.PLACES[target][1] != t.PLACES[source][1]:
            back.src, back.dst = t.ONE_MAC, t.mac(source)
        lab.receive(vxlan(back))
    run(lab, source, target, tcp(source, target, "A", family, 1000, 9000))


KINDS = {
    "udp": lambda a, b, family: udp(a, b, family),
    "tiny udp": lambda a, b, family: udp(a, b, family, size=1),
    "tcp": lambda a, b, family: tcp(a, b, "PA", family, 1000, 9000, size=99),
    "tcp ack": lambda a, b, family: tcp(a, b, "A", family, 1000, 9000),
    "ping": lambda a, b, family: l3(a, b, family) / echo(family),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", TARGETS)
def test_second_packet_takes_the_fast_path_to_the_same_result(
    lab: Lab, kind: str, family: int, target: str
) -> None:
    packet = KINDS[kind]("a", target, family)
    if kind.startswith("tcp"):
        establish(lab, "a", target, family)
        lab.edit_flows(epoch=1)  # judged again: the slow path once more
    slow = lab.send("a", packet)
    assert slow.verdict == REDIRECT
    with lab.fast_path_only():
        fast = lab.send("a", packet)
    assert same(slow, fast)
    inner = fast.tunnel.inner if target in "ce" else fast.frame
    checked(inner)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_out_of_a_tunnel_too(lab: Lab, kind: str, family: int) -> None:
    packet = KINDS[kind]("c", "a", family)
    if kind.startswith("tcp"):
        lab.receive(vxlan(tcp("c", "a", "S", family, 999)))
        lab.send("a", tcp("a", "c", "SA", family, 8999, 1000, 80, 40000))
        lab.receive(vxlan(tcp("c", "a", "A", family, 1000, 9000)))
        lab.edit_flows(epoch=1)
    slow = lab.receive(vxlan(packet))
    assert slow.delivered_to == "a"
    with lab.fast_path_only():
        assert same(slow, lab.receive(vxlan(packet)))


ODD = {
    "options": lambda family: l3("a", "b", 4, options=b"\x01" * 4),
    "fragment": lambda family: l3("a", "b", 4, flags="MF"),
    "IPv6 options": lambda family: l3("a", "b", 6, nh=0) / (b"\x11\0\1\4" + bytes(4)),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_is_not_plain_takes_the_slow_path(lab: Lab, make: object) -> None:
    for family in FAMILIES:
        assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    packet = make(4) / UDP(sport=40000, dport=5000) / payload(32)  # type: ignore[operator]
    with lab.fast_path_only():
        assert lab.send("a", packet).drop == Drop.TAIL_CALL
    assert lab.send("a", packet).delivered_to == "b"


@pytest.mark.parametrize("flags", ["S", "SA", "F", "FA", "R", "RA"])
def test_every_change_of_tcp_state_takes_the_slow_path(lab: Lab, flags: str) -> None:
    establish(lab, "a", "b", 4)
    with lab.fast_path_only():
        assert lab.send("a", tcp("a", "b", flags, 4, 1000, 9000)).drop == Drop.TAIL_CALL


#: Bytes from the Ethernet header on that a hostile guest would play with.
MUTATIONS = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), min_size=1, max_size=3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["udp", "tcp", "ping"])
def test_any_change_of_a_known_packet_means_the_same_on_both_paths(
    lab: Lab, kind: str, family: int
) -> None:
    """A mutated packet of an established flow, once with the flow's decision at hand,
    once with one that must be made again: verdict, bytes, receiver, and drops agree."""
    packet = bytes(KINDS[kind]("a", "d", family))

    def prepare() -> None:
        if kind == "tcp":
            establish(lab, "a", "d", family)
        lab.send("a", packet)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MUTATIONS)
    def check(changes: list[tuple[int, int]]) -> None:
        mutated = bytearray(packet)
        for at, value in changes:
            mutated[at % len(mutated)] = value
        outcomes = []
        for stale in (False, True):
            lab.forget()
            prepare()
            if stale:
                lab.edit_flows(epoch=1)
            outcomes.append(lab.send("a", bytes(mutated)))
            lab.copies()
        assert same(*outcomes), bytes(mutated).hex()

    check()


def test_lengths_of_layers_agree_with_the_frame(lab: Lab) -> None:
    """The fast path refuses what the slow path would: IP longer than the frame."""
    for family in FAMILIES:
        assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
        broken = udp("a", "b", family)
        if family == 4:
            broken[IP].len = 1000
        else:
            broken[IPv6].plen = 1000
        assert lab.send("a", broken).drop == Drop.TRUNCATED
