"""Rates and marks of endpoints: who is asked, on which path, and what a packet looks like after."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from daemon.abi import Drop
from daemon.compiler.limits import limit_rows
from daemon.model.qos import DSCP, Limit, Qos
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, PORT, checked, payload, to, udp
from tests.bpf.lab import REDIRECT, SHOT, Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged

#: 1,250 bytes a second, and two of our packets at once: the third is ahead of its time.
SLOW = {"rate_kbit": 10, "burst_kbyte": 2}
SIZE = 1200
ECN = 1


def limited(lab: Lab, who: str, **qos: Any) -> None:
    lab.program(t.zone(changed={who: {"qos": qos}}))


def passed(outcomes: list[Outcome]) -> int:
    """How many, before those that were dropped for their rate."""
    verdicts = [outcome.verdict for outcome in outcomes]
    count = verdicts.count(REDIRECT)
    assert verdicts == [REDIRECT] * count + [SHOT] * (len(verdicts) - count)
    assert all(outcome.drop is Drop.LIMIT for outcome in outcomes[count:])
    return count


@pytest.mark.parametrize("target", ["b", "c", "d"])
def test_what_is_sent_has_a_rate_whoever_it_is_for(lab: Lab, target: str) -> None:
    limited(lab, "a", egress=SLOW)
    assert passed([lab.send("a", udp("a", target, size=SIZE)) for _ in range(6)]) == 2
    assert passed([lab.send("b", udp("b", "a", size=SIZE)) for _ in range(6)]) == 6


@pytest.mark.parametrize("source", ["b", "d"])
def test_what_is_received_has_a_rate_whoever_sent_it(lab: Lab, source: str) -> None:
    limited(lab, "a", ingress=SLOW)
    assert passed([lab.send(source, udp(source, "a", size=SIZE)) for _ in range(6)]) == 2
    assert passed([lab.send("a", udp("a", source, size=SIZE)) for _ in range(6)]) == 6


def test_out_of_a_tunnel_too(lab: Lab) -> None:
    limited(lab, "a", ingress=SLOW)
    assert passed([lab.receive(vxlan(udp("c", "a", size=SIZE))) for _ in range(6)]) == 2


def test_the_first_packet_of_a_flow_and_the_others_share_the_rate(lab: Lab) -> None:
    limited(lab, "a", egress=SLOW)
    many = [lab.send("a", udp("a", "b", sport=4000 + n, size=SIZE)) for n in range(6)]
    assert passed(many) == 2
    assert len(lab.flows()) == 2 * 2  # who is over the rate makes no entry


def test_the_fast_path_asks_as_well(lab: Lab) -> None:
    limited(lab, "a", egress=SLOW)
    assert lab.send("a", udp("a", "b", size=SIZE)).verdict == REDIRECT
    with lab.fast_path_only():
        assert passed([lab.send("a", udp("a", "b", size=SIZE)) for _ in range(5)]) == 1


def test_a_pause_pays_for_the_next_packets(lab: Lab) -> None:
    """The rate, over a second of far more than it; and what a longer pause is worth."""
    limited(lab, "a", egress={"rate_kbit": 200, "burst_kbyte": 2})  # 20 of our packets a second
    frame = udp("a", "b", size=SIZE)

    def through(seconds: float) -> int:
        begun = time.monotonic()
        count = 0
        while time.monotonic() - begun < seconds:
            count += lab.send("a", frame).verdict == REDIRECT
        return count

    assert through(0.01) <= 3  # the burst
    assert 18 <= through(1) <= 22
    time.sleep(1)
    assert through(0.01) <= 3


def test_a_packet_larger_than_the_burst_passes_alone(lab: Lab) -> None:
    limited(lab, "a", egress={"rate_kbit": 10, "burst_kbyte": 2})
    assert passed([lab.send("a", udp("a", "b", size=1400)) for _ in range(1)]) == 1


def test_what_is_flooded_counts(lab: Lab) -> None:
    limited(lab, "a", egress=SLOW)
    eth = to("a", "10.0.1.255", "ff:ff:ff:ff:ff:ff")
    frame = eth / UDP(sport=PORT, dport=5000) / payload(SIZE)
    outcomes = [lab.send("a", frame) for _ in range(6)]
    assert [one.drop for one in outcomes].count(Drop.LIMIT) == 4


def test_a_limit_that_is_lifted_is_lifted_for_connections_that_are_there(lab: Lab) -> None:
    limited(lab, "a", egress=SLOW)
    assert passed([lab.send("a", udp("a", "b", size=SIZE)) for _ in range(6)]) == 2
    lab.program(t.zone())
    assert passed([lab.send("a", udp("a", "b", size=SIZE)) for _ in range(6)]) == 6
    limited(lab, "a", egress=SLOW)
    assert passed([lab.send("a", udp("a", "b", size=SIZE)) for _ in range(6)]) <= 2


def field(packet: Packet) -> int:
    return int(packet[IP].tos if IP in packet else packet[IPv6].tc)


def with_field(packet: Packet, value: int) -> Packet:
    if IP in packet:
        packet[IP].tos = value
    else:
        packet[IPv6].tc = value
        packet[IPv6].fl = 0xABCDE
    return packet


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "c", "d", "e"])
def test_a_mark_is_written_and_the_congestion_bits_stay(lab: Lab, family: int, target: str) -> None:
    limited(lab, "a", dscp="ef")
    packet = with_field(udp("a", target, family), 8 << 2 | ECN)
    slow = lab.send("a", packet)
    with lab.fast_path_only():
        fast = lab.send("a", packet)
    for outcome in (slow, fast):
        inner = outcome.tunnel.inner if target in "ce" else outcome.frame
        seen = checked(inner)
        assert field(seen) == DSCP["ef"] << 2 | ECN
        if family == 6:
            assert seen[IPv6].fl == 0xABCDE
        if target in "ce":
            assert outcome.tunnel.outer[IP].tos == DSCP["ef"] << 2


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(was=st.integers(0, 255), dscp=st.integers(0, 63), ident=st.integers(0, 65535))
def test_the_checksum_is_right_for_every_mark(lab: Lab, was: int, dscp: int, ident: int) -> None:
    limited(lab, "a", dscp=dscp)
    packet = with_field(udp("a", "b"), was)
    packet[IP].id = ident
    seen = checked(lab.send("a", packet).frame)
    assert field(seen) == dscp << 2 | was & 3


def test_a_guests_own_mark_stays_inside(lab: Lab) -> None:
    outcome = lab.send("a", with_field(udp("a", "c"), 46 << 2))
    assert field(checked(outcome.tunnel.inner)) == 46 << 2
    assert outcome.tunnel.outer[IP].tos == 0


def test_the_answer_has_the_mark_of_who_answers(lab: Lab) -> None:
    limited(lab, "a", dscp="ef")
    lab.send("a", udp("a", "b"))
    assert field(checked(lab.send("b", udp("b", "a", sport=5000, dport=40000)).frame)) == 0


def test_numbers_of_a_row() -> None:
    megabit = Limit(rate_kbit=8000, burst_kbyte=1000)
    assert (megabit.burst_s, Limit(rate_kbit=8000).burst_s) == (1.0, 0.25)
    assert limit_rows([]) == {}
    assert Qos.model_validate({"dscp": "AF41"}).dscp == 34
