"""ROUTER_POLICY: rules of the interfaces a packet passes."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP

from daemon.abi import Drop
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, echo, ping, tcp, to, udp
from tests.bpf.lab import Lab, vxlan
from tests.bpf.outside import FLOAT, FORWARD, OUT, answer, zone_with_uplink

pytestmark = pytest.mark.privileged

OPEN = {"ingress": "allow", "egress": "allow"}
NO = {"name": "no", "action": "deny"}


def program(lab: Lab, gates: dict[tuple[str, str], dict[str, Any]], **spec: Any) -> None:
    """`gates`: rules by router and bridge, `{"ingress": [...]}`."""
    shop = t.shop(default=OPEN, **spec)
    routers = []
    for router in shop.spec.routers:
        faces = []
        for face in router.interfaces:
            rules = gates.get((router.name, face.bridge), {})
            data = {**face.model_dump(exclude_unset=True), **rules}
            faces.append(type(face).model_validate(data))
        routers.append(router.model_copy(update={"interfaces": tuple(faces)}))
    changed = shop.spec.model_copy(update={"routers": tuple(routers)})
    lab.program(t.zone(shop.model_copy(update={"spec": changed})))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("gate", "name"),
    [
        ({("one", "web"): {"egress": [NO]}}, "router:one:web/egress/no"),
        ({("one", "app"): {"ingress": [NO]}}, "router:one:app/ingress/no"),
    ],
)
def test_the_interface_entered_and_the_one_left_are_asked(
    lab: Lab, family: int, gate: dict[tuple[str, str], dict[str, Any]], name: str
) -> None:
    program(lab, gate)
    outcome = lab.send("a", udp("a", "d", family))
    assert outcome.drops == {("a", Drop.POLICY_ROUTER): 1}
    assert outcome.hits == {"": 1, name: 1}
    assert not lab.flows()
    assert lab.send("a", udp("a", "b", family)).delivered_to == "b", "its own bridge"
    assert lab.send("a", ping("a", "b", family)).delivered_to == "b"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_direction_is_not_asked(lab: Lab, family: int) -> None:
    closed = {("one", "web"): {"ingress": [NO]}, ("one", "app"): {"egress": [NO]}}
    program(lab, closed)
    sent = lab.send("a", udp("a", "d", family))
    assert sent.delivered_to == "d" and "router:one:web/ingress/no" not in sent.hits
    back = lab.send("d", udp("d", "a", family, sport=5000, dport=40000))
    assert back.delivered_to == "a", "an answer follows its connection"
    assert lab.send("d", udp("d", "a", family, sport=7)).drop == Drop.POLICY_ROUTER


@pytest.mark.parametrize("family", FAMILIES)
def test_every_router_on_the_way_is_asked_in_order(lab: Lab, family: int) -> None:
    yes = {"name": "yes"}
    way = [("one", "web", "egress"), ("one", "link", "ingress"), ("two", "link", "egress"),
           ("two", "far", "ingress")]  # fmt: skip
    program(lab, {(router, bridge): {direction: [yes]} for router, bridge, direction in way})
    outcome = lab.send("a", udp("a", "z", family))
    assert outcome.delivered_to == "z"
    names = {f"router:{router}:{bridge}/{direction}/yes" for router, bridge, direction in way}
    assert outcome.hits == {"": 2, **dict.fromkeys(names, 1)}
    program(lab, {("two", "link"): {"egress": [NO]}, ("one", "web"): {"egress": [yes]}})
    outcome = lab.send("a", udp("a", "z", family, sport=9))
    assert outcome.drop == Drop.POLICY_ROUTER
    assert outcome.hits == {"": 1, "router:one:web/egress/yes": 1, "router:two:link/egress/no": 1}


def test_peers_are_where_it_goes_and_who_it_comes_from(lab: Lab) -> None:
    to_d = {"name": "no", "action": "deny", "peers": [{"cidr": "10.0.2.11/32"}]}
    program(lab, {("one", "web"): {"egress": [to_d]}})
    assert lab.send("a", udp("a", "d")).drop == Drop.POLICY_ROUTER
    assert lab.send("a", udp("a", "w")).delivered_to == "w"
    clients = {"name": "no", "action": "deny", "peers": [{"group": "clients"}]}
    program(lab, {("one", "app"): {"ingress": [clients]}})
    assert lab.send("a", udp("a", "d")).drop == Drop.POLICY_ROUTER
    assert lab.send("b", udp("b", "d")).delivered_to == "d"


def test_the_first_rule_that_matches_decides(lab: Lab) -> None:
    rules = [{"name": "web", "protocol": "tcp", "ports": [80]}, NO]
    program(lab, {("one", "app"): {"ingress": rules}})
    assert lab.send("a", tcp("a", "d", "S", dport=80)).delivered_to == "d"
    assert lab.send("a", tcp("a", "d", "S", dport=81)).drop == Drop.POLICY_ROUTER
    assert lab.send("a", ping("a", "d")).drop == Drop.POLICY_ROUTER


def test_a_change_is_felt_by_what_is_established(lab: Lab) -> None:
    program(lab, {})
    assert lab.send("a", udp("a", "d")).delivered_to == "d"
    program(lab, {("one", "app"): {"ingress": [NO]}})
    assert lab.send("a", udp("a", "d")).drop == Drop.POLICY_ROUTER
    program(lab, {})
    assert lab.send("a", udp("a", "d")).delivered_to == "d"


def test_the_senders_node_asks_and_the_receivers_does_not(lab: Lab) -> None:
    program(lab, {("one", "app"): {"ingress": [NO]}, ("one", "web"): {"ingress": [NO]}})
    assert lab.send("a", udp("a", "e")).drop == Drop.POLICY_ROUTER
    arriving = udp("c", "d")
    arriving.src, arriving.dst = t.ONE_MAC, t.mac("d")
    assert lab.receive(vxlan(arriving, t.APP)).delivered_to == "d"


def test_the_routers_own_address_is_not_behind_its_interface(lab: Lab) -> None:
    program(lab, {("one", "web"): {"egress": [NO], "ingress": [NO]}})
    to_router = to("a", t.gateway("web"), t.ONE_MAC) / echo()
    assert lab.send("a", to_router).answered


@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_from_outside_is_asked_where_it_leaves_the_router(lab: Lab, family: int) -> None:
    peers = [{"cidr": f"{OUT[family]}/{32 if family == 4 else 128}"}]
    no_dns = {"name": "no", "action": "deny", "protocol": "udp", "ports": [53], "peers": peers}
    lab.program(zone_with_uplink(rules={"web": {"ingress": [no_dns], "egress": [NO]}}))
    refused = lab.receive(answer(family, FLOAT[family], UDP(sport=5, dport=53)))
    assert refused.drops == {("b", Drop.POLICY_ROUTER): 1}
    assert refused.hits == {"router:one:web/ingress/no": 1}
    other = lab.receive(answer(family, FLOAT[family], UDP(sport=5, dport=54)))
    assert other.delivered_to == "b"
    back = lab.send("b", to("b", OUT[family]) / UDP(sport=54, dport=5))
    assert back.drop is None, "an answer follows its connection"


def test_a_forwarded_port_is_asked_by_the_port_it_leads_to(lab: Lab) -> None:
    syn = TCP(sport=5, dport=2222, flags="S")
    for port, drop in ((22, Drop.POLICY_ROUTER), (2222, None)):
        rule = {"name": "no", "action": "deny", "protocol": "tcp", "ports": [port]}
        lab.program(zone_with_uplink(rules={"app": {"ingress": [rule]}}))
        assert lab.receive(answer(4, FORWARD, syn)).drop is drop, port


def test_nobody_outside_is_a_member_of_a_group(lab: Lab) -> None:
    clients = {"name": "no", "action": "deny", "peers": [{"group": "clients"}]}
    lab.program(zone_with_uplink(rules={"web": {"ingress": [clients]}}))
    forged = answer(4, FLOAT[4], UDP(sport=5, dport=53), source=t.ip4("a"))
    assert lab.receive(forged).delivered_to == "b"
