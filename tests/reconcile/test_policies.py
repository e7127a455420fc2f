"""Policies that no object of the domain says anything of: administrators', and the time."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from daemon.abi import RuleLog as Event
from daemon.abi import Stage
from daemon.compiler.result import Names
from daemon.compiler.wide import wide
from daemon.reconcile.loop import Reconciler
from daemon.reconcile.rule_log import RuleLines
from daemon.responders.service import Responder
from daemon.store.interface import Store
from tests.reconcile.conftest import FakeHost, endpoint, zone
from tests.reconcile.test_loop import PACE, SHOP, ZONE, put, running, until, web
from tests.reconcile.test_loop import store as store

MONDAY_NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


async def test_an_administrators_policy_is_heard_of_and_programmed(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    rule = {"name": "no", "action": "deny", "protocol": "tcp"}
    policy = {"kind": "AdminPolicy", "name": "guard", "spec": {"egress": [rule]}}
    async with running(store, host) as reconciler:
        await until(lambda: "acme/shop/web-1" in host.devices)
        assert not host.tables["plum_verdict"]
        revision = await put(store, policy)
        await until(lambda: host.tables["plum_verdict"])
        await until(lambda: reconciler.status.applied_revision >= revision)
        epoch = dict(host.tables["plum_epoch"])
        await put(store, {**policy, "spec": {}})
        await until(lambda: not host.tables["plum_verdict"])
        assert host.tables["plum_epoch"] != epoch, "connections are judged again"


async def test_rules_begin_and_cease_by_the_clock(store: Store) -> None:
    rule = {"name": "office", "active": [{"days": ["mon"], "hours": "08:00-18:00"}]}
    shop: dict[str, Any] = {**SHOP, "spec": {**SHOP["spec"]}}  # type: ignore[dict-item]
    shop["spec"]["policies"] = [{"name": "p", "ingress": [rule]}]
    await put(store, *ZONE[:-1], shop, web("web-1"))
    host, now = FakeHost(), [MONDAY_NOON]
    reconciler = Reconciler(
        "n1", store, host, Responder(lambda index, frame: None), pace=PACE, clock=lambda: now[0]
    )
    async with running(store, host, reconciler=reconciler):
        await until(lambda: host.tables["plum_verdict"])
        now[0] += 6 * 3600
        await until(lambda: not host.tables["plum_verdict"])
        now[0] += 6 * 86400 + 14 * 3600
        await until(lambda: host.tables["plum_verdict"])


def event(**changes: Any) -> Event:
    made = Event(
        rule=9, domain=1, slot=5, lost=0, stage=Stage.INGRESS_POLICY, allowed=0, proto=6,
        saddr=wide(ip_address("10.0.0.6")), daddr=wide(ip_address("10.0.0.5")), sport=40000, dport=22,
        icmp_type=0, icmp_code=0,
    )  # fmt: skip
    return made._replace(**changes)


NAMES = Names(
    rules={9: ("acme/shop", "p/ingress/ssh")},
    slots={5: "acme/shop/web-1"},
    domains={1: "acme/shop"},
)
SNAPSHOT = zone(endpoint("web-1", 5), endpoint("web-2", 6))


def test_a_line_names_what_the_kernel_numbers() -> None:
    lines = RuleLines(lambda: int(MONDAY_NOON * 1e9))
    lines.hear(event(lost=3), NAMES, SNAPSHOT)
    (line,) = lines.after(0)
    assert (line.domain, line.rule, line.verdict) == ("acme/shop", "p/ingress/ssh", "refused")
    assert (line.source, line.target) == ("acme/shop/web-2", "acme/shop/web-1")
    assert (line.protocol, line.source_port, line.target_port) == ("tcp", 40000, 22)
    assert (line.time, line.lost) == ("2026-11-23T12:00:00.000+00:00", 3)
    assert line.icmp_type is None


@pytest.mark.parametrize("gone", [{"rule": 8}, {"slot": 4}, {"domain": 2}])
def test_what_is_gone_meanwhile_leaves_no_line(gone: dict[str, int]) -> None:
    lines = RuleLines(lambda: 1)
    lines.hear(event(**gone), NAMES, SNAPSHOT)
    assert not list(lines.after(0))


def test_numbers_rise_though_the_clock_goes_back_and_old_lines_go() -> None:
    times = iter([50, 50, 40, 40, 30, 30, 20, 20])
    lines = RuleLines(lambda: next(times), kept=3)
    for _ in range(4):
        lines.hear(event(), NAMES, SNAPSHOT)
    assert [line.number for line in lines.after(0)] == [51, 52, 53]
    assert [line.number for line in lines.after(52)] == [lines.read] == [53]
