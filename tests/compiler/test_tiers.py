"""Administrators' policies: before a domain's rules, after them, and passed by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from daemon.abi import Ep, EpKey, PolicyAction
from daemon.compiler.lookup import Lookup
from daemon.compiler.node import Cache, compile_node
from daemon.compiler.packet import Packet
from daemon.compiler.result import Compiled, Device
from daemon.compiler.tiers import concerning
from daemon.compiler.wide import wide
from daemon.model.admin import AdminPolicySpec
from daemon.model.object import AdminPolicy, Domain
from daemon.model.snapshot import Snapshot
from tests.compiler.build import RUNTIME, domain, endpoint, snapshot


def admin(name: str, *rules: dict[str, Any], **more: Any) -> AdminPolicy:
    """Its rules, of both directions, are called r0, r1, ..."""
    named = [{"name": f"r{i}", **rule} for i, rule in enumerate(rules)]
    spec = {"ingress": named, "egress": named, **more}
    return AdminPolicy(name=name, spec=AdminPolicySpec.model_validate(spec))


def zone(a_domain: Domain, *policies: AdminPolicy) -> Snapshot:
    e1 = endpoint(1, labels={"app": "web"})
    e2 = endpoint(2, labels={"app": "db"})
    made = snapshot(a_domain, e1, e2)
    return Snapshot(
        1, {}, made.nodes, made.domains, made.endpoints, {}, {p.name: p for p in policies}
    )


def decide(given: Snapshot, peer: str = "10.0.1.12", dport: int = 80) -> tuple[bool, str]:
    """The verdict on a TCP connection from `peer` to e1, and whose it is; "" the default."""
    devices = {path: Device(200 + e.slot) for path, e in given.endpoints.items()}
    made = compile_node(given, "n1", devices, RUNTIME)
    lookup = Lookup(made.rows)
    ep = made.rows["plum_ep"][EpKey(201)]
    assert isinstance(ep, Ep)
    address = ip_address(peer)
    packet = Packet("", "", address, address, 6, dport=dport)
    found = lookup.decide(ep.ingress_set, lookup.peer_class(7, wide(address)), packet)
    allowed = found.action is PolicyAction.ALLOW
    return allowed, made.names.rules[found.rule][1] if found.rule else ""


OPEN = {"name": "own", "ingress": [{"name": "all"}]}
CLOSED = {"name": "own", "ingress": [{"name": "none", "action": "deny"}]}


def test_an_administrators_deny_comes_before_what_the_tenant_allows() -> None:
    given = zone(domain(policies=[OPEN]), admin("guard", {"action": "deny", "protocol": "tcp"}))
    assert decide(given) == (False, "admin:guard/ingress/r0")


def test_an_administrators_allow_comes_before_what_the_tenant_denies() -> None:
    given = zone(domain(policies=[CLOSED]), admin("scan", {"action": "allow"}))
    assert decide(given) == (True, "admin:scan/ingress/r0")


def test_what_no_administrators_rule_matches_is_the_tenants() -> None:
    rule = {"action": "deny", "protocol": "tcp", "ports": [23]}
    given = zone(domain(policies=[OPEN]), admin("guard", rule))
    assert decide(given) == (True, "own/ingress/all")
    assert decide(given, dport=23) == (False, "admin:guard/ingress/r0")


@pytest.mark.parametrize(
    ("own", "verdict"),
    [(OPEN, (True, "own/ingress/all")), (CLOSED, (False, "own/ingress/none")), (None, (False, ""))],
)
def test_a_pass_hands_over_to_the_tenant_and_to_nothing_below_it(
    own: dict[str, Any] | None, verdict: tuple[bool, str]
) -> None:
    """Whichever of the two names a peer: their rows are different ones in the kernel."""
    everybody, somebody = {}, {"peers": [{"labels": {"app": "db"}}]}
    for first, second in ((everybody, somebody), (somebody, everybody), (somebody, somebody)):
        for below in ("allow", "deny"):
            policy = admin("p", {"action": "pass", **first}, {"action": below, **second})
            assert decide(zone(domain(policies=[own] if own else []), policy)) == verdict


def test_a_pass_of_some_leaves_others_to_the_rules_below() -> None:
    passes = {"action": "pass", "peers": [{"cidr": "10.0.1.12/32"}], "ports": ["80-90"]}
    given = zone(domain(policies=[OPEN]), admin("p", passes, {"action": "deny"}))
    assert decide(given) == (True, "own/ingress/all")
    assert decide(given, dport=91) == (False, "admin:p/ingress/r1")
    assert decide(given, "192.0.2.1") == (False, "admin:p/ingress/r1")


def test_a_baseline_stands_between_the_tenants_rules_and_its_default() -> None:
    base = admin("base", {"action": "allow"}, tier="baseline")
    assert decide(zone(domain(), base)) == (True, "admin:base/ingress/r0")
    assert decide(zone(domain(policies=[CLOSED]), base)) == (False, "own/ingress/none")
    passing = admin("p", {"action": "pass"}, {"action": "deny"})
    assert decide(zone(domain(), base, passing)) == (True, "admin:base/ingress/r0")


def test_policies_are_read_by_order_then_by_name() -> None:
    late = admin("a", {"action": "allow"}, order=20)
    early = admin("z", {"action": "deny"}, order=10)
    assert decide(zone(domain(), late, early)) == (False, "admin:z/ingress/r0")
    same = admin("b", {"action": "deny"}, order=20)
    assert decide(zone(domain(), same, late)) == (True, "admin:a/ingress/r0")


@pytest.mark.parametrize(
    ("selector", "applies"),
    [
        ({}, True),
        ({"tenants": ["acme"]}, True),
        ({"tenants": ["globex"]}, False),
        ({"domains": ["acme/shop"]}, True),
        ({"domains": ["acme/shop-2"]}, False),
        ({"tenants": ["globex"], "domains": ["acme/shop"]}, True),
        ({"labels": {"app": "web"}}, True),
        ({"labels": {"app": "db"}}, False),
        ({"tenants": ["acme"], "labels": {"app": "web", "tier": "1"}}, False),
    ],
)
def test_the_selector_says_for_whom(selector: dict[str, Any], applies: bool) -> None:
    given = zone(domain(policies=[OPEN]), admin("guard", {"action": "deny"}, applies_to=selector))
    assert decide(given) == (
        (False, "admin:guard/ingress/r0") if applies else (True, "own/ingress/all")
    )


def test_only_policies_for_a_domain_concern_it() -> None:
    mine, other = admin("m", order=5), admin("o", applies_to={"tenants": ["globex"]})
    every = admin("e", order=1)
    assert concerning([mine, other, every], "acme/shop") == (every, mine)


def test_a_change_of_an_administrators_policy_is_compiled_though_nothing_else_changed() -> None:
    cache = Cache()
    a_domain = domain(policies=[OPEN])
    before = zone(a_domain)
    devices = {path: Device(200 + e.slot) for path, e in before.endpoints.items()}
    first = compile_node(before, "n1", devices, RUNTIME, cache)
    after = Snapshot(
        2, {}, before.nodes, before.domains, before.endpoints, {},
        {"g": admin("g", {"action": "deny"})},
    )  # fmt: skip
    second = compile_node(after, "n1", devices, RUNTIME, cache)
    assert second.packed == compile_node(after, "n1", devices, RUNTIME).packed
    assert first.packed["plum_epoch"] != second.packed["plum_epoch"]


MONDAY_NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_rule_counts_while_its_window_is_open() -> None:
    rule = {"name": "office", "active": [{"days": ["mon"], "hours": "08:00-18:00"}]}
    given = zone(domain(policies=[{"name": "own", "ingress": [rule]}]))
    devices = {path: Device(200 + e.slot) for path, e in given.endpoints.items()}
    cache = Cache()

    def at(moment: datetime) -> Compiled:
        return compile_node(given, "n1", devices, RUNTIME, cache, moment=moment)

    noon, night = at(MONDAY_NOON), at(MONDAY_NOON + timedelta(hours=6))
    assert noon.until == MONDAY_NOON + timedelta(hours=6)
    assert night.until == datetime(2026, 11, 30, 8, tzinfo=UTC)
    for made, counts in ((noon, True), (night, False), (at(MONDAY_NOON), True)):
        ep = made.rows["plum_ep"][EpKey(201)]
        assert isinstance(ep, Ep) and bool(ep.ingress_set) is counts
        assert ("acme/shop", "own/ingress/office") in made.names.rules.values()
    assert noon.packed["plum_epoch"] != night.packed["plum_epoch"]
    without = compile_node(given, "n1", devices, RUNTIME)
    assert without.packed == noon.packed and without.until is None


def test_the_lowest_limit_of_connections_holds() -> None:
    def limit(*policies: dict[str, Any], admins: tuple[AdminPolicy, ...] = ()) -> int:
        groups = [
            {"name": "web", "labels": {"app": "web"}},
            {"name": "db", "labels": {"app": "db"}},
        ]
        given = zone(domain(groups=groups, policies=policies), *admins)
        devices = {path: Device(200 + e.slot) for path, e in given.endpoints.items()}
        ep = compile_node(given, "n1", devices, RUNTIME).rows["plum_ep"][EpKey(201)]
        assert isinstance(ep, Ep)
        return ep.flow_quota

    def capped(count: int, group: str) -> dict[str, Any]:
        return {"name": f"cap-{group}", "applies_to": group, "max_connections": count}

    assert limit() == 16384
    assert limit(capped(500, "web"), capped(100, "db")) == 500
    assert limit(capped(500, "web"), admins=(admin("cap", max_connections=64),)) == 64
    assert limit(capped(900_000, "web")) == 16384
