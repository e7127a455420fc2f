"""FLOW_LOOKUP and FLOW_INSTALL for TCP: handshakes, ends, and what forgers try."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.abi import Drop, FlowFlag, FlowState
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, tcp
from tests.bpf.lab import Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged

A, B = 1000, 9000  # initial sequence numbers


class Connection:
    """a to b, sequence numbers kept."""

    def __init__(self, lab: Lab, family: int = 4, client: str = "a", server: str = "b") -> None:
        self.lab, self.family, self.client, self.server = lab, family, client, server

    def forth(self, flags: str, seq: int = A + 1, ack: int = B + 1, size: int = 0) -> Outcome:
        packet = tcp(self.client, self.server, flags, self.family, seq, ack, size=size)
        return self.lab.send(self.client, packet)

    def back(self, flags: str, seq: int = B + 1, ack: int = A + 1, size: int = 0) -> Outcome:
        packet = tcp(self.server, self.client, flags, self.family, seq, ack, 80, 40000, size=size)
        if t.PLACES[self.server][2] == "n1":
            return self.lab.send(self.server, packet)
        return self.lab.receive(vxlan(packet))

    @property
    def state(self) -> Any:  # a FlowState; a type checker would take it for constant
        states = {flow.state for flow in self.lab.flows().values()}
        assert len(states) == 1, "both entries agree"
        return FlowState(states.pop())

    def open(self) -> None:
        assert self.forth("S", A, 0).verdict == 7
        assert self.back("SA", B).delivered_to == self.client
        assert self.forth("A").verdict == 7
        assert self.state == FlowState.ESTABLISHED


@pytest.fixture(params=FAMILIES)
def connection(lab: Lab, request: pytest.FixtureRequest) -> Connection:
    return Connection(lab, request.param)


def test_handshake_leads_to_established_step_by_step(connection: Connection) -> None:
    assert connection.forth("S", A, 0).delivered_to == "b"
    assert connection.state == FlowState.NEW
    assert connection.back("SA", B).delivered_to == "a"
    assert connection.state == FlowState.SYN_RECEIVED
    assert connection.forth("A").delivered_to == "b"
    assert connection.state == FlowState.ESTABLISHED
    with connection.lab.fast_path_only():
        assert connection.forth("PA", size=10).delivered_to == "b"
        assert connection.back("A", ack=A + 11).delivered_to == "a"
    assert len(connection.lab.flows()) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_handshake_with_another_node(lab: Lab, family: int) -> None:
    Connection(lab, family, "a", "c").open()


@pytest.mark.parametrize("flags", ["A", "PA", "SA", "FA", "R", "RA"])
def test_mid_flow_without_handshake_is_dropped(connection: Connection, flags: str) -> None:
    assert connection.forth(flags).drops == {("a", Drop.TCP_NO_HANDSHAKE): 1}
    packet = tcp("c", "b", flags, connection.family, 5, 6)
    assert connection.lab.receive(vxlan(packet)).drops == {("b", Drop.TCP_NO_HANDSHAKE): 1}
    assert not connection.lab.flows()


def test_data_before_the_handshake_is_done_changes_no_state(connection: Connection) -> None:
    connection.forth("S", A, 0)
    connection.forth("A")
    connection.back("A")
    connection.forth("PA", size=5)
    assert connection.state == FlowState.NEW


def test_syn_ack_with_a_wrong_number_changes_no_state(connection: Connection) -> None:
    connection.forth("S", A, 0)
    for wrong in (A, A + 2, 0):
        connection.back("SA", B, wrong)
        assert connection.state == FlowState.NEW
    connection.back("SA", B)
    assert connection.state == FlowState.SYN_RECEIVED


def test_final_acknowledgement_must_cover_the_syn_ack(connection: Connection) -> None:
    connection.forth("S", A, 0)
    connection.back("SA", B)
    connection.forth("A", ack=B)
    assert connection.state == FlowState.SYN_RECEIVED
    connection.forth("A")
    assert connection.state == FlowState.ESTABLISHED


def test_syn_with_data_counts_it(connection: Connection) -> None:
    """TCP fast open (RFC 7413): the answer acknowledges SYN and data."""
    connection.forth("S", A, 0, size=10)
    connection.back("SA", B, A + 11)
    assert connection.state == FlowState.SYN_RECEIVED


@pytest.mark.parametrize("off", [-1, 1, 1000, 0x80000000])
def test_blind_reset_changes_no_state(connection: Connection, off: int) -> None:
    """RFC 5961: in the window is not enough. It passes: the guest judges it too."""
    connection.open()
    connection.back("A", ack=A + 1)
    for outcome in (
        connection.forth("R", seq=(A + 1 + off) & 0xFFFFFFFF),
        connection.back("RA", seq=(B + 1 + off) & 0xFFFFFFFF),
    ):
        assert outcome.verdict == 7
        assert connection.state == FlowState.ESTABLISHED


def test_exact_reset_from_the_client_closes(connection: Connection) -> None:
    connection.open()
    connection.back("A", ack=A + 1)
    connection.forth("R")
    assert connection.state == FlowState.CLOSED


def test_exact_reset_from_the_server_closes(connection: Connection) -> None:
    connection.open()
    connection.back("RA")
    assert connection.state == FlowState.CLOSED


def test_reset_after_fast_path_traffic_is_compared_with_the_newest_ack(
    connection: Connection,
) -> None:
    connection.open()
    with connection.lab.fast_path_only():
        assert connection.forth("PA", size=100).delivered_to == "b"
        assert connection.back("A", ack=A + 101).delivered_to == "a"
    connection.forth("R", seq=A + 1)
    assert connection.state == FlowState.ESTABLISHED
    connection.forth("R", seq=A + 101)
    assert connection.state == FlowState.CLOSED


def test_refused_connection_closes_if_the_reset_answers_the_syn(connection: Connection) -> None:
    connection.forth("S", A, 0)
    connection.back("RA", 0, A + 5)
    assert connection.state == FlowState.NEW
    connection.back("RA", 0, A + 1)
    assert connection.state == FlowState.CLOSED


def test_both_fins_close(connection: Connection) -> None:
    connection.open()
    connection.forth("FA")
    assert connection.state == FlowState.CLOSING
    connection.back("A", ack=A + 2)
    connection.forth("FA")  # again: still one side only
    assert connection.state == FlowState.CLOSING
    assert connection.back("FA", ack=A + 2).delivered_to == "a"
    assert connection.state == FlowState.CLOSED
    assert connection.forth("A", A + 2, B + 2).delivered_to == "b", "the last ACK passes"
    assert connection.state == FlowState.CLOSED


def test_half_closed_connection_goes_on_in_the_other_direction(connection: Connection) -> None:
    connection.open()
    connection.forth("FA")
    for i in range(3):
        assert connection.back("PA", B + 1 + 10 * i, A + 2, size=10).delivered_to == "a"
        assert connection.forth("A", A + 2, B + 11 + 10 * i).delivered_to == "b"
    assert connection.state == FlowState.CLOSING


def test_nothing_but_a_syn_reopens_a_closed_connection(connection: Connection) -> None:
    connection.open()
    connection.back("RA")
    for flags in ("A", "FA", "PA", "SA"):
        connection.forth(flags)
        assert connection.state == FlowState.CLOSED, flags
    connection.back("FA")
    assert connection.state == FlowState.CLOSED


@pytest.mark.parametrize("end", ["RA", "FA"])
def test_syn_reuses_the_ports_of_a_closed_connection(connection: Connection, end: str) -> None:
    connection.open()
    if end == "FA":
        connection.forth("FA")
        connection.back("FA", ack=A + 2)
    else:
        connection.back("RA")
    charged = connection.lab.quota("a")
    assert connection.forth("S", 77777, 0).delivered_to == "b"
    assert connection.state == FlowState.NEW
    connection.back("SA", 88888, 77778)
    connection.forth("A", 77778, 88889)
    assert connection.state == FlowState.ESTABLISHED
    assert connection.lab.quota("a") == charged, "and is not charged twice"
    assert not any(f.flags & FlowFlag.FIN for f in connection.lab.flows().values())


def test_syn_on_a_closed_connection_is_judged_anew(connection: Connection) -> None:
    connection.open()
    connection.back("RA")
    outcome = connection.forth("S", 77777, 0)
    assert outcome.hits == {"": 2}


def test_server_may_call_back_from_the_same_ports(connection: Connection) -> None:
    """A closed connection's other end opens one: the roles swap."""
    lab = connection.lab
    connection.open()
    connection.back("RA")
    rule = {"name": "no", "action": "deny", "protocol": "tcp", "ports": ["40000"]}
    lab.program(t.zone(t.shop(policies=[{"name": "p", "ingress": [rule]}])))
    assert connection.back("S", 5, 0).drop == Drop.POLICY_INGRESS
    lab.program()
    assert connection.back("S", 5, 0).delivered_to == "a"
    replies = {k.ctx for k, f in lab.flows().items() if f.flags & FlowFlag.REPLY}
    assert replies == {lab.ifindex["a"]}


def test_simultaneous_open_swaps_no_rights(connection: Connection) -> None:
    """A SYN against a SYN is a new connection of its own, and judged as one."""
    lab = connection.lab
    rule = {"name": "no", "action": "deny", "protocol": "tcp", "ports": ["40000"]}
    lab.program(t.zone(t.shop(policies=[{"name": "p", "ingress": [rule]}])))
    assert connection.forth("S", A, 0).delivered_to == "b"
    assert connection.back("S", B, 0).drop == Drop.POLICY_INGRESS


def test_retransmitted_handshake_is_harmless(connection: Connection) -> None:
    for _ in range(2):
        assert connection.forth("S", A, 0).delivered_to == "b"
    for _ in range(2):
        assert connection.back("SA", B).delivered_to == "a"
    for _ in range(2):
        assert connection.forth("A").delivered_to == "b"
    assert connection.state == FlowState.ESTABLISHED
    assert connection.back("SA", B).delivered_to == "a"
    assert connection.state == FlowState.ESTABLISHED
    assert connection.lab.quota("a") == 1


def test_other_ports_and_addresses_are_other_connections(connection: Connection) -> None:
    connection.open()
    family, lab = connection.family, connection.lab
    assert lab.send("a", tcp("a", "b", "A", family, dport=81)).drop == Drop.TCP_NO_HANDSHAKE
    assert lab.send("a", tcp("a", "p", "A", family)).drop == Drop.TCP_NO_HANDSHAKE
    assert lab.send("x", tcp("x", "y", "A", family)).drop == Drop.TCP_NO_HANDSHAKE
    tunnelled = vxlan(tcp("a", "b", "A", family))
    assert lab.receive(tunnelled).drop == Drop.TCP_NO_HANDSHAKE, "nor from elsewhere"


def test_idle_times_are_those_of_the_state(connection: Connection) -> None:
    lab = connection.lab
    lab.config(tcp_established_s=100, tcp_transient_s=10)
    connection.open()
    now = max(flow.seen for flow in lab.flows().values())
    lab.edit_flows(seen=now - 90 * 10**9)
    assert connection.forth("A").delivered_to == "b"
    lab.edit_flows(seen=now - 101 * 10**9)
    assert connection.forth("A").drop == Drop.TCP_NO_HANDSHAKE
    assert connection.back("A").drop == Drop.TCP_NO_HANDSHAKE
    connection.forth("S", A, 0)
    lab.edit_flows(seen=now - 11 * 10**9)
    assert connection.back("SA", B).drop == Drop.TCP_NO_HANDSHAKE
