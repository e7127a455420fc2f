"""EGRESS_POLICY and INGRESS_POLICY: which rule decides, and that it is counted."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.sctp import SCTP

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, l3, payload, ping, tcp, to, udp
from tests.bpf.lab import Lab, vxlan

pytestmark = pytest.mark.privileged

DENY = {"ingress": "deny", "egress": "deny"}


def rules(direction: str, *items: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    named = [{"name": f"r{i}", **item} for i, item in enumerate(items)]
    return [{"name": "p", direction: named, **more}]


def program(lab: Lab, policies: list[dict[str, Any]], **default: str) -> None:
    base = {"ingress": "allow", "egress": "allow", **default}
    lab.program(t.zone(t.shop(policies=policies, default=base)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_default_decides_where_no_rule_does(lab: Lab, family: int, direction: str) -> None:
    reason = {"ingress": Drop.POLICY_INGRESS, "egress": Drop.POLICY_EGRESS}[direction]
    program(lab, [], **{direction: "deny"})
    outcome = lab.send("a", udp("a", "b", family))
    assert outcome.drops == {("a", reason): 1}
    assert outcome.hits[""] == (2 if direction == "ingress" else 1)
    assert not lab.flows()


@pytest.mark.parametrize("family", FAMILIES)
def test_first_rule_that_matches_decides_and_is_counted(lab: Lab, family: int) -> None:
    port = {"protocol": "udp", "ports": ["5000"]}
    program(lab, rules("ingress", {**port, "action": "deny"}, {"action": "allow"}))
    refused = lab.send("a", udp("a", "b", family))
    assert refused.drop == Drop.POLICY_INGRESS
    assert refused.hits == {"": 1, "p/ingress/r0": 1}
    allowed = lab.send("a", udp("a", "b", family, dport=5001))
    assert allowed.hits == {"": 1, "p/ingress/r1": 1}
    again = lab.send("a", udp("a", "b", family, dport=5001))
    assert again.delivered_to == "b" and not again.hits, "a decision is counted once"
    program(lab, rules("ingress", {"action": "allow"}, {**port, "action": "deny"}))
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"


@pytest.mark.parametrize("family", FAMILIES)
def test_rule_is_noted_in_the_flow_of_the_receiver(lab: Lab, family: int) -> None:
    program(lab, rules("ingress", {"action": "allow"}), ingress="deny")
    compiled = lab.program(t.zone(t.shop(policies=rules("ingress", {}), default=DENY)))
    assert lab.send("a", udp("a", "b", family)).drop == Drop.POLICY_EGRESS
    assert lab.receive(vxlan(udp("c", "b", family))).delivered_to == "b"
    rule = lab.flow(str(t.WEB)).rule
    assert compiled.names.rules[rule] == ("acme/shop", "p/ingress/r0")


@pytest.mark.parametrize("port", [7999, 8000, 8001, 8042, 8043, 8080, 8081])
@pytest.mark.parametrize("family", FAMILIES)
def test_port_ranges_reach_from_first_to_last(lab: Lab, family: int, port: int) -> None:
    program(
        lab,
        rules(
            "ingress",
            {"protocol": "tcp", "ports": ["8042"], "action": "deny"},
            {"protocol": "tcp", "ports": ["8000-8080"]},
        ),
        ingress="deny",
    )
    outcome = lab.send("a", tcp("a", "b", "S", family, dport=port))
    allowed = 8000 <= port <= 8080 and port != 8042
    assert outcome.drop == (None if allowed else Drop.POLICY_INGRESS)
    assert lab.send("a", udp("a", "b", family, dport=8000)).drop == Drop.POLICY_INGRESS


@pytest.mark.parametrize("port", [0, 1, 65534, 65535])
def test_ends_of_the_port_space(lab: Lab, port: int) -> None:
    edge = {"protocol": "udp", "ports": ["0", "65535"], "action": "deny"}
    program(lab, rules("ingress", edge))
    outcome = lab.send("a", udp("a", "b", dport=port))
    assert outcome.drop == (Drop.POLICY_INGRESS if port in (0, 65535) else None)


def test_many_ports_are_found_by_bisection(lab: Lab) -> None:
    odd = [str(port) for port in range(1, 2001, 2)]
    program(lab, rules("ingress", {"protocol": "udp", "ports": odd}), ingress="deny")
    for port in (0, 1, 2, 999, 1000, 1001, 1998, 1999, 2000, 65535):
        outcome = lab.send("a", udp("a", "b", dport=port))
        allowed = port % 2 and port < 2000
        assert outcome.drop == (None if allowed else Drop.POLICY_INGRESS), port


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_name_peers(lab: Lab, family: int) -> None:
    """clients: a and c; servers: b."""
    peers = [{"group": "clients"}]
    program(lab, rules("ingress", {"peers": peers}, applies_to="servers"), ingress="deny")
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"
    assert lab.receive(vxlan(udp("c", "b", family))).delivered_to == "b"
    assert lab.send("p", udp("p", "b", family)).drop == Drop.POLICY_INGRESS
    assert lab.receive(vxlan(udp("f", "b", family))).drop == Drop.POLICY_INGRESS
    assert lab.send("a", udp("a", "d", family)).drop == Drop.POLICY_INGRESS, "not for others"
    program(lab, rules("egress", {"peers": [{"group": "servers"}]}), egress="deny")
    assert lab.send("p", udp("p", "b", family, dport=9)).delivered_to == "b"
    assert lab.send("p", udp("p", "a", family)).drop == Drop.POLICY_EGRESS
    assert lab.send("p", udp("p", "c", family)).drop == Drop.POLICY_EGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_empty_peers_are_nobody_and_absent_peers_anybody(lab: Lab, family: int) -> None:
    program(lab, rules("ingress", {"peers": []}), ingress="deny")
    assert lab.send("a", udp("a", "b", family)).drop == Drop.POLICY_INGRESS
    program(lab, rules("ingress", {}), ingress="deny")
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b"


NESTED: list[dict[str, Any]] = [
    {"peers": [{"cidr": "203.0.113.128/25"}, {"cidr": "2001:db8:cafe:8000::/49"}]},
    {
        "peers": [{"cidr": "203.0.113.0/24"}, {"cidr": "2001:db8:cafe::/48"}],
        "action": "deny",
    },
    {"peers": [{"cidr": "203.0.0.0/16"}, {"cidr": "2001:db8::/32"}]},
    {"peers": [{"cidr": "0.0.0.0/0"}], "protocol": "udp", "ports": ["53"]},
    {"peers": [{"cidr": "::/0"}], "protocol": "udp", "ports": ["54"]},
]


@pytest.mark.parametrize(
    ("peer", "port", "rule"),
    [
        ("203.0.113.200", 9, "r0"),
        ("203.0.113.9", 9, "r1"),
        ("192.168.1.1", 9, ""),
        ("192.168.1.1", 53, "r3"),
        ("192.168.1.1", 54, ""),  # ::/0 holds no IPv4 address
        ("2001:db8:cafe:8001::1", 9, "r0"),
        ("2001:db8:cafe:1::1", 9, "r1"),
        ("2001:db8:4::11", 9, "r2"),
        ("2001:db8:4::11", 53, "r2"),
    ],
)
def test_nested_networks_each_have_their_rules(lab: Lab, peer: str, port: int, rule: str) -> None:
    program(lab, rules("egress", *NESTED), egress="deny")
    outcome = lab.send("a", to("a", peer) / UDP(sport=1, dport=port))
    name = f"p/egress/{rule}" if rule else ""
    assert outcome.hits[name] >= 1
    expected = None if rule in ("r0", "r2", "r3") else Drop.POLICY_EGRESS
    assert outcome.drop == expected


def test_foreign_source_of_a_pair_is_judged_as_its_network(lab: Lab) -> None:
    """w speaks for 203.0.113/24; rules on that network see it."""
    blocked = {"peers": [{"cidr": "203.0.113.0/24"}], "action": "deny"}
    program(lab, rules("ingress", blocked))
    packet = to("w", t.ip4("a"), src="203.0.113.5") / UDP(sport=1, dport=2)
    assert lab.send("w", packet).drop == Drop.POLICY_INGRESS
    assert lab.send("w", udp("w", "a")).delivered_to == "a"


@pytest.mark.parametrize("family", FAMILIES)
def test_icmp_types_and_codes(lab: Lab, family: int) -> None:
    proto, request = ("icmp", 8) if family == 4 else ("icmp6", 128)
    program(lab, rules("ingress", {"protocol": proto, "icmp_type": request}), ingress="deny")
    assert lab.send("a", ping("a", "b", family)).delivered_to == "b"
    assert lab.send("b", ping("b", "a", family, reply=True)).delivered_to == "a"
    other = l3("a", "b", 4) / ICMP(type=13) / payload(12)
    assert lab.send("a", other).drop == Drop.POLICY_INGRESS
    assert lab.send("a", udp("a", "b", family)).drop == Drop.POLICY_INGRESS
    program(
        lab,
        rules("ingress", {"protocol": proto, "icmp_type": request, "icmp_code": 1}),
        ingress="deny",
    )
    assert lab.send("a", ping("a", "p", family)).drop == Drop.POLICY_INGRESS
    odd = l3("a", "p", family) / echo(family)
    odd.getlayer(2).code = 1
    assert lab.send("a", odd).delivered_to == "p"


@pytest.mark.parametrize("family", FAMILIES)
def test_protocols_are_told_apart(lab: Lab, family: int) -> None:
    program(lab, rules("ingress", {"protocol": "47"}, {"protocol": "sctp"}), ingress="deny")
    gre = {"proto": 47} if family == 4 else {"nh": 47}
    esp = {"proto": 50} if family == 4 else {"nh": 50}
    assert lab.send("a", l3("a", "b", family, **gre) / payload(20)).delivered_to == "b"
    assert lab.send("a", l3("a", "b", family, **esp) / payload(20)).drop == Drop.POLICY_INGRESS
    assert lab.send("a", l3("a", "b", family) / SCTP(sport=1, dport=2)).delivered_to == "b"
    assert lab.send("a", l3("a", "b", family) / TCP(flags="S")).drop == Drop.POLICY_INGRESS


def test_icmp_rules_of_one_family_leave_the_other(lab: Lab) -> None:
    program(lab, rules("ingress", {"protocol": "icmp"}), ingress="deny")
    assert lab.send("a", ping("a", "b", 4)).delivered_to == "b"
    assert lab.send("a", ping("a", "b", 6)).drop == Drop.POLICY_INGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_egress_is_judged_here_and_ingress_on_the_receivers_node(lab: Lab, family: int) -> None:
    program(lab, [], ingress="deny")
    outcome = lab.send("a", udp("a", "c", family))
    assert outcome.tunnel and outcome.hits == {"": 1}
    program(lab, [], egress="deny")
    received = lab.receive(vxlan(udp("c", "a", family, 1, 2)))
    assert received.delivered_to == "a" and received.hits == {"": 1}


def test_order_of_policies_is_the_order_of_the_domain(lab: Lab) -> None:
    first = {"name": "one", "ingress": [{"name": "r", "action": "deny", "protocol": "udp"}]}
    second = {"name": "two", "ingress": [{"name": "r", "peers": [{"group": "clients"}]}]}
    program(lab, [first, second])
    outcome = lab.send("a", udp("a", "b"))
    assert outcome.drop == Drop.POLICY_INGRESS and outcome.hits["one/ingress/r"] == 1
    program(lab, [second, first])
    outcome = lab.send("a", udp("a", "b"))
    assert outcome.delivered_to == "b" and outcome.hits["two/ingress/r"] == 1
