"""Flows of UDP and ICMP, epochs, idle times, quotas, collection."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
)
from scapy.packet import Packet

from daemon.abi import Drop, FlowFlag, FlowState
from daemon.model.snapshot import Snapshot
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, l3, payload, ping, tcp, udp
from tests.bpf.lab import Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged

SECOND = 10**9


def deny(direction: str, proto: str = "udp", port: str | None = "5000", to: str = "p") -> Snapshot:
    rule: dict[str, object] = {"name": "no", "action": "deny", "protocol": proto}
    if port:
        rule["ports"] = [port]
    return t.zone(t.shop(policies=[{"name": to, direction: [rule]}]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "d", "z"])
def test_replies_pass_against_default_deny(lab: Lab, family: int, target: str) -> None:
    rule = {"name": "in", "protocol": "udp", "ports": ["5000"]}
    closed = {"ingress": "deny", "egress": "allow"}
    lab.program(t.zone(t.shop(default=closed, policies=[{"name": "p", "ingress": [rule]}])))
    assert lab.send("a", udp("a", target, family)).delivered_to == target
    reply = udp(target, "a", family, 5000, 40000)
    assert lab.send(target, reply).delivered_to == "a"
    assert {f.state for f in lab.flows().values()} == {FlowState.ESTABLISHED}
    with lab.fast_path_only():
        assert lab.send(target, reply).delivered_to == "a"
        assert lab.send("a", udp("a", target, family)).delivered_to == target
    stranger = udp(target, "a", family, 5000, 40001)
    assert lab.send(target, stranger).drop == Drop.POLICY_INGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_replies_from_another_node_pass(lab: Lab, family: int) -> None:
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "allow"})))
    assert lab.send("a", udp("a", "c", family)).tunnel.vni == t.WEB
    reply = vxlan(udp("c", "a", family, 5000, 40000))
    assert lab.receive(reply).delivered_to == "a"
    with lab.fast_path_only():
        assert lab.receive(reply).delivered_to == "a"
    assert lab.receive(vxlan(udp("c", "a", family, 5001, 40000))).drop == Drop.POLICY_INGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_replies_of_a_routed_connection_come_in_the_own_vni(lab: Lab, family: int) -> None:
    """e's node routes the answer onto a's bridge; in e's VNI it is no reply."""
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "allow"})))
    assert lab.send("a", udp("a", "e", family)).tunnel.vni == t.APP
    reply = l3("e", "a", family)
    reply.src, reply.dst = t.ONE_MAC, t.mac("a")
    reply = reply / UDP(sport=5000, dport=40000) / payload(8)
    assert lab.receive(vxlan(reply, vni=t.WEB)).delivered_to == "a"
    assert lab.receive(vxlan(reply, vni=t.APP)).delivered_to is None


@pytest.mark.parametrize("family", FAMILIES)
def test_echo_reply_needs_its_request(lab: Lab, family: int) -> None:
    assert lab.send("b", ping("b", "a", family, reply=True)).drop == Drop.ICMP_UNRELATED
    assert lab.receive(vxlan(ping("c", "a", family, reply=True))).drop == Drop.ICMP_UNRELATED
    assert lab.send("a", ping("a", "b", family)).delivered_to == "b"
    assert lab.send("b", ping("b", "a", family, reply=True, id=78)).drop == Drop.ICMP_UNRELATED
    assert lab.send("p", ping("p", "a", family, reply=True)).drop == Drop.ICMP_UNRELATED
    for _ in range(2):
        assert lab.send("b", ping("b", "a", family, reply=True)).delivered_to == "a"
    with lab.fast_path_only():
        assert lab.send("b", ping("b", "a", family, reply=True)).delivered_to == "a"


def test_other_icmp_answers_are_unrelated(lab: Lab) -> None:
    for kind in (14, 16, 18):
        packet = l3("a", "b", 4) / ICMP(type=kind)
        assert lab.send("a", packet).drop == Drop.ICMP_UNRELATED


def error(source: str, quoted: Packet, family: int, kind: str = "unreachable") -> Packet:
    """An ICMP error from `source` to the sender of `quoted` (without its Ethernet part)."""
    inner = quoted.payload
    head = l3(source, "a", family)
    head.payload.dst = inner.src
    if family == 4:
        types = {"unreachable": (3, 3), "ttl": (11, 0), "big": (3, 4)}
        kind4, code = types[kind]
        return head / ICMP(type=kind4, code=code) / bytes(inner)[:68]
    kinds = {
        "unreachable": ICMPv6DestUnreach(code=4),
        "ttl": ICMPv6TimeExceeded(),
        "big": ICMPv6PacketTooBig(mtu=1280),
    }
    return head / kinds[kind] / bytes(inner)[:100]


QUOTED = {
    "udp": lambda family: udp("a", "b", family),
    "tcp": lambda family: tcp("a", "b", "S", family),
    "echo": lambda family: ping("a", "b", family),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", QUOTED)
@pytest.mark.parametrize("kind", ["unreachable", "ttl", "big"])
def test_related_error_passes_and_leaves_no_trace(
    lab: Lab, family: int, what: str, kind: str
) -> None:
    lab.program(
        t.zone(
            t.shop(
                default={"ingress": "deny", "egress": "allow"},
                policies=[{"name": "p", "applies_to": "servers", "ingress": [{"name": "all"}]}],
            )
        )
    )
    packet = QUOTED[what](family)
    assert lab.send("b", error("b", packet, family, kind)).drop == Drop.ICMP_UNRELATED
    assert lab.send("a", packet).delivered_to == "b"
    before = lab.flows()
    outcome = lab.send("b", error("b", packet, family, kind))
    assert outcome.delivered_to == "a"
    assert not outcome.hits
    assert lab.flows() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_related_error_from_another_node_passes(lab: Lab, family: int) -> None:
    packet = udp("a", "c", family)
    forged = vxlan(error("c", packet, family))
    assert lab.receive(forged).drop == Drop.ICMP_UNRELATED
    assert lab.send("a", packet).tunnel
    assert lab.receive(forged).delivered_to == "a"


@pytest.mark.parametrize("family", FAMILIES)
def test_unrelated_errors_are_dropped(lab: Lab, family: int) -> None:
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    assert lab.send("a", udp("a", "d", family)).delivered_to == "d"
    wrong = {
        "other port": error("b", udp("a", "b", family, dport=5001), family),
        "other protocol": error("b", tcp("a", "b", "S", family, dport=5000), family),
        "flow of another endpoint": error("b", udp("a", "d", family), family),
        "its own direction": error("b", udp("b", "a", family, 5000, 40000), family),
    }
    wrong["its own direction"].payload.dst = t.ip("a", family)
    for name, packet in wrong.items():
        assert lab.send("b", packet).drop == Drop.ICMP_UNRELATED, name
    other = error("b", udp("a", "b", family), family)
    other.dst, other.payload.dst = t.mac("p"), t.ip("p", family)
    assert lab.send("b", other).drop == Drop.ICMP_UNRELATED, "not to the quoted sender"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 4, 19, 20, 39, 40, 44, 47])
def test_errors_that_quote_too_little_are_unrelated(lab: Lab, family: int, size: int) -> None:
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    packet = error("b", udp("a", "b", family), family)
    quote = bytes(udp("a", "b", family).payload)[:size]
    head = l3("b", "a", family)
    head = head / (ICMP(type=3, code=3) if family == 4 else ICMPv6DestUnreach(code=4))
    outcome = lab.send("b", head / quote)
    enough = size >= (28 if family == 4 else 48)
    assert outcome.drop == (None if enough else Drop.ICMP_UNRELATED)
    assert lab.send("b", packet).delivered_to == "a"


def test_error_about_a_revoked_flow_is_dropped(lab: Lab) -> None:
    assert lab.send("a", udp("a", "b")).delivered_to == "b"
    lab.program(deny("ingress"))
    assert lab.send("b", error("b", udp("a", "b"), 4)).drop == Drop.ICMP_UNRELATED


def test_error_from_a_router_endpoint_on_the_way_passes(lab: Lab) -> None:
    """w forwards to 203.0.113/24 and says that the TTL ran out there."""
    packet = l3("a", "d", 4)
    packet[IP].dst = "203.0.113.9"
    packet = packet / UDP(sport=40000, dport=33434) / payload(8)
    assert lab.send("a", packet).delivered_to == "w"
    assert lab.send("w", error("w", packet, 4, "ttl")).delivered_to == "a"


# ---- epochs ---------------------------------------------------------------


def _connect(lab: Lab, target: str, family: int) -> tuple[Packet, Packet]:
    forth = udp("a", target, family)
    back = udp(target, "a", family, 5000, 40000)
    for _ in range(2):
        assert lab.send("a", forth).delivered_to == target
        assert lab.send(target, back).delivered_to == "a"
    return forth, back


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["b", "d"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_revoked_access_dies_at_the_next_packet_of_either_direction(
    lab: Lab, family: int, target: str, direction: str
) -> None:
    reason = {"ingress": Drop.POLICY_INGRESS, "egress": Drop.POLICY_EGRESS}[direction]
    forth, back = _connect(lab, target, family)
    lab.program(deny(direction))
    assert lab.send(target, back).drop == reason
    assert lab.send("a", forth).drop == reason
    assert lab.send(target, back).drop == reason
    lab.program()
    assert lab.send("a", forth).delivered_to == target
    assert lab.send(target, back).delivered_to == "a"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_revoked_access_to_another_node_dies_where_the_rule_is(
    lab: Lab, family: int, direction: str
) -> None:
    outward, answer = udp("a", "c", family), vxlan(udp("c", "a", family, 5000, 40000))
    inward, reply = vxlan(udp("c", "a", family, 600, 5000)), udp("a", "c", family, 5000, 600)
    assert lab.send("a", outward).tunnel and lab.receive(answer).delivered_to
    assert lab.receive(inward).delivered_to and lab.send("a", reply).tunnel
    lab.program(deny(direction))
    if direction == "egress":
        assert lab.receive(answer).drop == Drop.POLICY_EGRESS
        assert lab.send("a", outward).drop == Drop.POLICY_EGRESS
        assert lab.receive(inward).delivered_to == "a"
        assert lab.send("a", reply).tunnel
    else:
        assert lab.send("a", reply).drop == Drop.POLICY_INGRESS
        assert lab.receive(inward).drop == Drop.POLICY_INGRESS
        assert lab.send("a", outward).tunnel
        assert lab.receive(answer).delivered_to == "a"


@pytest.mark.parametrize("family", FAMILIES)
def test_allowed_connection_keeps_its_state_over_a_change(lab: Lab, family: int) -> None:
    syn = tcp("a", "b", "S", family, 1000)
    assert lab.send("a", syn).delivered_to == "b"
    assert lab.send("b", tcp("b", "a", "SA", family, 9000, 1001, 80, 40000)).delivered_to == "a"
    ack = tcp("a", "b", "A", family, 1001, 9001)
    back = tcp("b", "a", "A", family, 9001, 1001, 80, 40000)
    assert lab.send("a", ack).delivered_to == "b"
    created = {key: flow.created for key, flow in lab.flows().items()}
    lab.program(deny("ingress", "tcp", "81"))
    with lab.fast_path_only():
        assert lab.send("a", ack).drop == Drop.TAIL_CALL, "it must be judged again"
    outcome = lab.send("b", back)
    assert outcome.delivered_to == "a" and outcome.hits == {"": 2}
    assert lab.send("a", ack).delivered_to == "b"
    with lab.fast_path_only():
        assert lab.send("a", ack).delivered_to == "b"
        assert lab.send("b", back).delivered_to == "a"
    assert {key: flow.created for key, flow in lab.flows().items()} == created
    assert {flow.state for flow in lab.flows().values()} == {FlowState.ESTABLISHED}
    assert lab.quota("a") == 1


def test_unchanged_programming_judges_nothing_again(lab: Lab) -> None:
    forth, back = _connect(lab, "b", 4)
    lab.program()
    with lab.fast_path_only():
        assert lab.send("a", forth).delivered_to == "b"
        assert lab.send("b", back).delivered_to == "a"


def test_revoked_echo_dies_in_both_directions(lab: Lab) -> None:
    for family in FAMILIES:
        assert lab.send("a", ping("a", "b", family)).delivered_to == "b"
        assert lab.send("b", ping("b", "a", family, reply=True)).delivered_to == "a"
        lab.program(deny("ingress", "icmp" if family == 4 else "icmp6", None))
        reply = lab.send("b", ping("b", "a", family, reply=True))
        assert reply.drop == Drop.POLICY_INGRESS
        assert lab.send("a", ping("a", "b", family)).drop == Drop.POLICY_INGRESS
        lab.program()


def test_moved_endpoint_is_followed(lab: Lab) -> None:
    """b goes to n2 under its address: the flow's old way is not used again."""
    forth = udp("a", "b")
    assert lab.send("a", forth).delivered_to == "b"
    lab.program(t.zone(changed={"b": {"node": "n2"}}))
    assert lab.send("a", forth).tunnel.vni == t.WEB


# ---- idle times -----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_idle_flow_is_as_if_absent(lab: Lab, family: int) -> None:
    lab.config(udp_s=10, udp_stream_s=20, icmp_s=5)
    rule = {"name": "in", "protocol": "udp", "ports": ["5000"]}
    closed = {"ingress": "deny", "egress": "allow"}
    lab.program(
        t.zone(t.shop(default=closed, policies=[{"name": "p", "ingress": [rule]}])),
        udp_s=10,
        udp_stream_s=20,
        icmp_s=5,
    )
    back = udp("b", "a", family, 5000, 40000)
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    now = max(flow.seen for flow in lab.flows().values())
    lab.edit_flows(seen=now - 11 * SECOND)
    assert lab.send("b", back).drop == Drop.POLICY_INGRESS
    assert lab.send("a", udp("a", "b", family)).hits == {"p/ingress/in": 1, "": 1}
    assert lab.send("b", back).delivered_to == "a"
    lab.edit_flows(seen=now - 19 * SECOND)
    assert lab.send("b", back).delivered_to == "a", "a stream lasts longer"
    lab.edit_flows(seen=now - 21 * SECOND)
    assert lab.send("b", back).drop == Drop.POLICY_INGRESS


def test_flow_busy_in_one_direction_is_not_idle_in_the_other(lab: Lab) -> None:
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "allow"})))
    assert lab.send("a", udp("a", "c")).tunnel
    answer = vxlan(udp("c", "a", 4, 5000, 40000))
    assert lab.receive(answer).delivered_to == "a"
    for key, flow in lab.rows("plum_flow4").items():
        if flow.flags & FlowFlag.REPLY:
            lab.write("plum_flow4", key, flow._replace(seen=flow.seen - 1000 * SECOND))
    assert lab.receive(answer).delivered_to == "a"


# ---- quotas and collection --------------------------------------------------


def _open(lab: Lab, source: str, number: int, target: str = "d") -> Outcome:
    return lab.send(source, udp(source, target, 4, 1024 + number, 53))


def test_quota_is_each_endpoints_own(lab: Lab) -> None:
    lab.program(t.zone(changed={"a": {"flow_quota": 16}}))
    for i in range(16):
        assert _open(lab, "a", i).delivered_to == "d"
    assert _open(lab, "a", 16).drops == {("a", Drop.FLOW_QUOTA): 1}
    assert lab.quota("a") == 16
    assert _open(lab, "a", 3).delivered_to == "d", "known flows go on"
    assert _open(lab, "b", 16).delivered_to == "d", "and others' are not affected"
    assert lab.send("d", udp("d", "a", 4, 53, 1024)).delivered_to == "a"
    assert lab.send("a", udp("a", "b", 6)).drop == Drop.FLOW_QUOTA, "both families count"


def test_connections_from_elsewhere_are_charged_to_the_receiver(lab: Lab) -> None:
    lab.program(t.zone(changed={"a": {"flow_quota": 16}}))
    for i in range(16):
        assert lab.receive(vxlan(udp("c", "a", 4, 2000 + i))).delivered_to == "a"
    assert lab.receive(vxlan(udp("c", "a", 4, 3000))).drops == {("a", Drop.FLOW_QUOTA): 1}
    assert lab.receive(vxlan(udp("c", "b", 4, 3000))).delivered_to == "b"


def test_refused_packets_are_charged_to_nobody(lab: Lab) -> None:
    lab.program(deny("ingress"))
    assert lab.send("a", udp("a", "b")).drop == Drop.POLICY_INGRESS
    assert lab.quota("a") == lab.quota("b") == 0


def test_collection_takes_idle_flows_and_counts_again(lab: Lab) -> None:
    lab.program(t.zone(changed={"a": {"flow_quota": 16}}))
    for i in range(16):
        assert _open(lab, "a", i).delivered_to == "d"
    assert lab.send("b", udp("b", "d", 6)).delivered_to == "d"
    for key, flow in lab.rows("plum_flow4").items():
        port = max(key.sport, key.dport)  # the other is 53
        if port < 1024 + 10:
            lab.write("plum_flow4", key, flow._replace(seen=flow.seen - 1000 * SECOND))
    answer = lab.collect()
    assert (answer.kept, answer.collected) == (6 * 2 + 2, 10 * 2)
    assert (lab.quota("a"), lab.quota("b")) == (6, 1)
    assert len(lab.flows()) == 14
    assert _open(lab, "a", 20).delivered_to == "d"


def test_collection_corrects_what_evictions_left_charged(lab: Lab) -> None:
    assert _open(lab, "a", 1).delivered_to == "d"
    for key in list(lab.rows("plum_flow4")):
        lab.erase("plum_flow4", key)
    assert lab.quota("a") == 1
    assert lab.collect().kept == 0
    assert lab.quota("a") == 0


def test_flow_is_kept_while_one_direction_is_busy(lab: Lab) -> None:
    assert _open(lab, "a", 1).delivered_to == "d"
    for key, flow in lab.rows("plum_flow4").items():
        if flow.flags & FlowFlag.REPLY:
            lab.write("plum_flow4", key, flow._replace(seen=flow.seen - 1000 * SECOND))
    assert lab.collect().kept == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_purge_forgets_every_flow_of_a_slot(lab: Lab, family: int) -> None:
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"  # by it
    assert lab.send("d", udp("d", "a", family, 7)).delivered_to == "a"  # to it
    assert lab.receive(vxlan(udp("c", "a", family, 8))).delivered_to == "a"
    assert lab.send("a", udp("a", "c", family, 9)).tunnel
    assert lab.send("b", udp("b", "d", family)).delivered_to == "d"  # not its
    answer = lab.collect("a")
    assert (answer.kept, answer.collected) == (2, 8)
    assert (lab.quota("a"), lab.quota("d"), lab.quota("b")) == (0, 0, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_five_tuple_in_two_domains_never_crosses(lab: Lab, family: int) -> None:
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    assert lab.send("x", udp("x", "y", family)).delivered_to == "y"
    assert lab.send("b", udp("b", "a", family, 5000, 40000)).delivered_to == "a"
    assert lab.send("y", udp("y", "x", family, 5000, 40000)).delivered_to == "x"
    assert len(lab.flows()) == 4
    lab.program(deny("ingress"))
    assert lab.send("a", udp("a", "b", family)).drop == Drop.POLICY_INGRESS
    assert lab.send("x", udp("x", "y", family)).delivered_to == "y"
    assert lab.receive(vxlan(udp("x", "y", family), vni=t.RIVAL)).delivered_to == "y"
    assert lab.receive(vxlan(udp("a", "b", family), vni=t.WEB)).drop == Drop.POLICY_INGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_reply_of_the_other_domain_is_no_reply(lab: Lab, family: int) -> None:
    assert lab.send("a", ping("a", "b", family)).delivered_to == "b"
    answer = l3("x", "y", family) / echo(family, reply=True)
    answer.src, answer.dst = t.mac("y"), t.mac("x")
    answer.payload.src, answer.payload.dst = answer.payload.dst, answer.payload.src
    assert lab.send("y", answer).drop == Drop.ICMP_UNRELATED


def test_counts_of_packets_and_bytes(lab: Lab) -> None:
    frame = udp("a", "b")
    for _ in range(3):
        lab.send("a", frame)
    flow = lab.flow("a")
    assert (flow.packets, flow.bytes) == (3, 3 * len(frame))
    outer = udp("c", "b")
    for _ in range(3):
        lab.receive(vxlan(outer))
    flow = lab.flow(str(t.WEB))
    assert (flow.packets, flow.bytes) == (3, 3 * len(outer))
