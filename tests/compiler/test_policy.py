"""Policy sets, classes and lists of spans, table by table and at scale."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from daemon.abi import Ep, EpKey, PolicyAction, PolicyProto
from daemon.compiler.domain import DomainRows
from daemon.compiler.errors import CompileError
from daemon.compiler.lookup import Lookup
from daemon.compiler.packet import Packet
from daemon.compiler.policy import intervals
from daemon.compiler.wide import wide
from daemon.model.policy import Rule
from tests.compiler.build import compiled, domain, endpoint

ALL = {int(proto): [(0, 65535)] for proto in PolicyProto}
TCP, UDP, SCTP, ICMP, ICMP6, OTHER = (int(proto) for proto in PolicyProto)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, ALL),
        ({"protocol": "tcp"}, {TCP: [(0, 65535)]}),
        ({"protocol": "udp", "ports": [53, "100-200"]}, {UDP: [(53, 53), (100, 200)]}),
        ({"protocol": "6", "ports": [80]}, {TCP: [(80, 80)]}),
        ({"protocol": "17"}, {UDP: [(0, 65535)]}),
        ({"protocol": "132"}, {SCTP: [(0, 65535)]}),
        ({"protocol": "1", "icmp_type": 8}, {ICMP: [(0x800, 0x8FF)]}),
        ({"protocol": "58", "icmp_type": 128, "icmp_code": 0}, {ICMP6: [(0x8000, 0x8000)]}),
        ({"protocol": "47"}, {OTHER: [(47, 47)]}),
        ({"protocol": "0"}, {OTHER: [(0, 0)]}),
        ({"ports": [80]}, {TCP: [(80, 80)], UDP: [(80, 80)], SCTP: [(80, 80)]}),
        ({"protocol": "47", "ports": [80]}, {}),
        ({"protocol": "icmp", "ports": [80]}, {}),
        ({"protocol": "tcp", "icmp_type": 8}, {}),
    ],
)
def test_intervals(rule: dict[str, Any], expected: dict[int, list[tuple[int, int]]]) -> None:
    assert intervals(Rule(name="r", **rule)) == expected


def test_a_code_without_a_type_is_that_code_of_every_type() -> None:
    found = intervals(Rule(name="r", protocol="icmp", icmp_code=3))
    assert found == {ICMP: [(kind << 8 | 3, kind << 8 | 3) for kind in range(256)]}


WEB = {"name": "web", "labels": {"app": "web"}}


def ingress(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "p", "ingress": [{"name": f"r{i}", **r} for i, r in enumerate(rules)], **more}


def decide(result: DomainRows, peer: str, protocol: int = 6, dport: int = 80) -> str:
    """Which ingress rule of e1 decides on a packet from `peer`; "" none."""
    lookup = Lookup(result.rows)
    ep = result.rows["plum_ep"][EpKey(201)]
    assert isinstance(ep, Ep)
    address = ip_address(peer)
    packet = Packet("", "", address, address, protocol, dport=dport)
    found = lookup.decide(ep.ingress_set, lookup.peer_class(7, wide(address)), packet)
    if found.action is PolicyAction.NONE:
        return ""
    return result.names.rules[found.rule][1].removeprefix("p/ingress/")


@pytest.mark.parametrize(
    ("rules", "cases"),
    [
        # the first of overlapping CIDRs decides, narrow or wide
        (
            [{"peers": [{"cidr": "10.0.0.0/8"}], "ports": [80]},
             {"peers": [{"cidr": "10.9.0.0/16"}]}],
            {("10.9.0.1", 80): "r0", ("10.9.0.1", 81): "r1", ("10.8.0.1", 81): "",
             ("192.0.2.1", 80): ""},
        ),
        # rules for anybody and for peers keep their order
        (
            [{"ports": [22]}, {"peers": [{"group": "web"}], "ports": ["1-100"]}, {"ports": [80]}],
            {("10.0.1.12", 22): "r0", ("10.0.1.12", 80): "r1", ("10.0.1.13", 80): "r2",
             ("10.0.1.13", 50): ""},
        ),
        # nobody: an empty list and an unknown group
        (
            [{"peers": []}, {"peers": [{"group": "gone"}]}, {"peers": [{"cidr": "10.0.1.13/32"}]}],
            {("10.0.1.12", 80): "", ("10.0.1.13", 80): "r2"},
        ),
        # ::/0 is not IPv4, 0.0.0.0/0 is not IPv6
        (
            [{"peers": [{"cidr": "::/0"}], "ports": [80]},
             {"peers": [{"cidr": "0.0.0.0/0"}], "ports": [81]}],
            {("192.0.2.1", 80): "", ("10.0.1.12", 80): "", ("2001:db8::1", 80): "r0",
             ("192.0.2.1", 81): "r1", ("2001:db8::1", 81): ""},
        ),
        ([{"peers": [{"cidr": "::/0"}]}], {("192.0.2.1", 80): "", ("::1", 80): "r0"}),
    ],
)  # fmt: skip
def test_which_rule_decides(rules: list[dict[str, Any]], cases: dict[tuple[str, int], str]) -> None:
    result = compiled(
        domain(groups=[WEB], policies=[ingress(*rules)]),
        endpoint(1),
        endpoint(2, on="n2", labels={"app": "web"}),
        endpoint(3, on="n2"),
    )
    for (peer, dport), expected in cases.items():
        assert decide(result, peer, dport=dport) == expected, (peer, dport)


def test_a_pair_carries_the_groups_of_its_endpoint() -> None:
    pairs = [{"address": "203.0.113.0/24"}, {"address": "10.0.1.100/32"}]
    result = compiled(
        domain(groups=[WEB], policies=[ingress({"peers": [{"group": "web"}]})]),
        endpoint(1),
        endpoint(2, on="n2", labels={"app": "web"}, allowed_pairs=pairs),
    )
    for peer in ("203.0.113.9", "10.0.1.100", "10.0.1.12"):
        assert decide(result, peer) == "r0"
    assert decide(result, "198.51.100.1") == ""


def test_policies_apply_to_their_group_only() -> None:
    policy = ingress({}, applies_to="web")
    plain = compiled(domain(groups=[WEB], policies=[policy]), endpoint(1))
    assert decide(plain, "10.0.1.12") == ""
    labelled = endpoint(1, labels={"app": "web"})
    member = compiled(domain(groups=[WEB], policies=[policy]), labelled)
    assert decide(member, "10.0.1.12") == "r0"
    unknown = compiled(domain(policies=[policy]), labelled)
    assert decide(unknown, "10.0.1.12") == ""
    nobody = domain(groups=[{"name": "web", "labels": {}}], policies=[policy])
    assert decide(compiled(nobody, labelled), "10.0.1.12") == ""


def test_a_set_is_its_content() -> None:
    def set_of(*rules: dict[str, Any]) -> int:
        row = compiled(domain(policies=[ingress(*rules)]), endpoint(1)).rows["plum_ep"]
        ep = row[EpKey(201)]
        assert isinstance(ep, Ep)
        return ep.ingress_set

    assert set_of({"ports": [80]}) == set_of({"ports": [80]})
    assert set_of({"ports": [80]}) != set_of({"ports": [81]})
    assert set_of({"ports": [80]}) != set_of({"ports": [80], "action": "deny"})
    assert set_of({"peers": []}) == 0


def test_rows_that_say_nothing_are_left_out() -> None:
    rules = [{"protocol": "tcp", "ports": [80], "peers": [{"cidr": "10.9.0.0/16"}]}]
    rows = compiled(domain(policies=[ingress(*rules)]), endpoint(1)).rows
    assert len(rows["plum_verdict"]) == 1
    assert len(rows["plum_span"]) == 3


def cidr(index: int) -> str:
    return f"{IPv4Address((11 << 24) + index * 16)}/28"


def test_ten_thousand_rules_compile_fast_and_small() -> None:
    rules = [
        {"protocol": "tcp", "ports": [1000 + i], "peers": [{"cidr": cidr(i)}]}
        for i in range(10_000)
    ]
    given = domain(policies=[ingress(*rules)])
    start = time.perf_counter()
    result = compiled(given, endpoint(1))
    assert time.perf_counter() - start < 1.5
    assert len(result.rows["plum_verdict"]) == 10_000
    assert len(result.rows["plum_span"]) == 30_000
    assert decide(result, "11.0.156.1", dport=1000 + 2496) == "r2496"


def test_explosion_is_an_error_that_names_the_domain() -> None:
    wide_rules = [
        {"protocol": "tcp", "ports": [2 * i], "peers": [{"cidr": "11.0.0.0/8"}]}
        for i in range(5_000)
    ]
    narrow = [
        {"protocol": "tcp", "ports": [20_001 + 2 * i], "peers": [{"cidr": cidr(i)}]}
        for i in range(5_000)
    ]
    start = time.perf_counter()
    with pytest.raises(CompileError, match="acme/shop") as caught:
        compiled(domain(policies=[ingress(*wide_rules, *narrow)]), endpoint(1))
    assert "CIDR" in caught.value.hint
    assert time.perf_counter() - start < 20  # seconds: refused, not worked through
