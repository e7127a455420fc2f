"""Rules with a log: what is told of a decision, when, and how often."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from daemon.abi import Index, LogRate, RuleLog, Stage
from daemon.compiler.wide import wide
from daemon.datapath import libbpf
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, ping, tcp, udp
from tests.bpf.lab import Lab, vxlan

pytestmark = pytest.mark.privileged


class Heard:
    """What plum_log says since it was asked last."""

    def __init__(self, lab: Lab) -> None:
        self._records: list[RuleLog] = []
        self._callback = libbpf.SAMPLE_FN(self._collect)
        ring = lab.maps["plum_log"]
        self._ring = libbpf.pointer(
            "read the log", "ring_buffer__new", ring.fd, self._callback, None, None
        )
        self()

    def _collect(self, context: int, data: int, size: int) -> int:
        self._records.append(RuleLog.unpack(ctypes.string_at(data, size)))
        return 0

    def __call__(self) -> list[RuleLog]:
        libbpf.call("consume the log", "ring_buffer__consume", self._ring)
        found, self._records = self._records, []
        return found

    def close(self) -> None:
        libbpf.free("ring_buffer__free", self._ring)


@pytest.fixture
def heard(lab: Lab) -> Iterator[Heard]:
    for slot in range(16):
        lab.write("plum_log_rate", Index(slot), LogRate(0, 0, 0))
    made = Heard(lab)
    yield made
    made.close()


def program(lab: Lab, *rules: dict[str, Any], direction: str = "ingress", **runtime: int) -> Any:
    named = [{"name": f"r{i}", **rule} for i, rule in enumerate(rules)]
    policies = [{"name": "p", direction: named}]
    default = {"ingress": "allow", "egress": "allow"}
    return lab.program(t.zone(t.shop(policies=policies, default=default)), **runtime)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("action", ["allow", "deny"])
def test_a_decision_about_a_new_connection_is_told(
    lab: Lab, heard: Heard, family: int, action: str
) -> None:
    compiled = program(lab, {"action": action, "protocol": "udp", "log": True})
    lab.send("a", udp("a", "b", family, dport=5000))
    (event,) = heard()
    assert compiled.names.rules[event.rule] == ("acme/shop", "p/ingress/r0")
    assert compiled.names.slots[event.slot] == t.path("b")
    assert (event.domain, event.proto, event.dport) == (7, 17, 5000)
    assert event.saddr == wide(ip_address(t.ip("a", family)))
    assert event.daddr == wide(ip_address(t.ip("b", family)))
    assert (event.stage, event.allowed) == (Stage.INGRESS_POLICY, action == "allow")
    assert event.lost == 0


def test_only_the_first_packet_of_a_connection_is_told(lab: Lab, heard: Heard) -> None:
    rule = {"protocol": "udp", "log": True}
    program(lab, rule)
    for _ in range(3):
        lab.send("a", udp("a", "b"))
    lab.send("b", udp("b", "a", sport=5000, dport=40000))
    assert len(heard()) == 1
    program(lab, rule, {"protocol": "tcp"})  # judged again, but no new connection
    again = lab.send("a", udp("a", "b"))
    assert again.hits["p/ingress/r0"] == 1
    assert heard() == []


def test_without_a_log_nothing_is_told(lab: Lab, heard: Heard) -> None:
    program(lab, {"protocol": "tcp", "log": True}, {"protocol": "udp"})
    lab.send("a", udp("a", "b"))
    lab.send("a", ping("a", "b"))
    assert heard() == []
    lab.send("a", tcp("a", "b", "S"))
    assert len(heard()) == 1


def test_the_senders_rule_is_told_with_the_sender(lab: Lab, heard: Heard) -> None:
    compiled = program(lab, {"log": True}, direction="egress")
    lab.send("a", udp("a", "c"))  # c is on another node
    (event,) = heard()
    assert compiled.names.slots[event.slot] == t.path("a")
    assert event.stage == Stage.EGRESS_POLICY
    lab.receive(vxlan(udp("c", "b")))  # its rules are asked there
    assert heard() == []


def test_a_refused_connection_is_told_each_time_it_is_tried(lab: Lab, heard: Heard) -> None:
    program(lab, {"action": "deny", "log": True})
    for _ in range(3):
        lab.send("a", tcp("a", "b", "S"))
    assert [event.allowed for event in heard()] == [0, 0, 0]


def test_over_the_limit_connections_are_counted_and_told_with_the_next_one(
    lab: Lab, heard: Heard
) -> None:
    compiled = program(lab, {"log": True}, log_per_s=4)
    ports = iter(range(41000, 42000))
    for _ in range(10):
        assert lab.send("a", udp("a", "b", sport=next(ports))).delivered_to == "b"
    assert len(heard()) == 4
    slot = next(s for s, path in compiled.names.slots.items() if path == t.path("b"))
    now = lab.rows("plum_log_rate")[Index(slot)]
    assert now.lost == 6
    lab.write("plum_log_rate", Index(slot), now._replace(window=0))  # a second later
    lab.send("a", udp("a", "b", sport=next(ports)))
    lab.send("a", udp("a", "b", sport=next(ports)))
    assert [event.lost for event in heard()] == [6, 0]


def test_a_sampled_rule_is_told_one_time_in_so_many(lab: Lab, heard: Heard) -> None:
    program(lab, {"log": {"sample": 4}}, log_per_s=100000)
    for port in range(30000, 30400):
        lab.send("a", udp("a", "b", sport=port))
    assert 60 <= len(heard()) <= 145  # 100 expected, deviation 9


def test_a_full_ring_costs_no_packet(lab: Lab, heard: Heard) -> None:
    program(lab, {"log": True}, log_per_s=100000)
    for port in range(20000, 24000):  # the ring holds 3640
        if lab.send("a", udp("a", "b", sport=port)).delivered_to != "b":
            pytest.fail(f"{port} was lost")
    assert sum(row.lost for row in lab.rows("plum_log_rate").values()) > 0
