"""A backend stays what it is until enough checks in a row say otherwise."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from daemon.health.plan import targets_of
from daemon.health.service import down_of
from daemon.health.verdict import Row, Verdict
from daemon.model.balancer import Health
from tests.compiler.build import domain, endpoint, snapshot

HEALTH = Health(rise=2, fall=3)


def ran(*checks: str, row: Row | None = None) -> Row:
    row = row or Row(Verdict(since="start"))
    for number, why in enumerate(checks):
        row = row.after(why, HEALTH, f"at {number}")
    return row


def test_it_takes_fall_bad_checks_in_a_row() -> None:
    assert ran("x", "x").verdict.up
    assert ran("x", "x", "", "x", "x").verdict.up
    down = ran("x", "x", "refused").verdict
    assert down == Verdict(up=False, since="at 2", why="refused")


def test_it_takes_rise_good_checks_to_come_back() -> None:
    down = ran("x", "x", "x")
    assert not ran("", "x", "", row=down).verdict.up
    assert ran("", "", row=down).verdict == Verdict(up=True, since="at 1")


def test_every_other_check_failing_changes_nothing() -> None:
    assert ran(*("x", "") * 50).verdict == Verdict(since="start")


def balanced(**more: Any) -> Any:
    front = {"name": "front", "bridge": "blue", "addresses": ["10.0.1.100"]}
    front |= {"listeners": [{"port": 80, "to_port": 8080}], "health": {}}
    front |= {"backends": [{"endpoint": "e1"}, {"endpoint": "e2"}]} | more
    made = domain(load_balancers=[front])
    return made.model_copy(update={"balancer_ids": {"front": 9}})


def test_a_node_checks_its_own_backends_at_the_listener_s_port() -> None:
    zone = snapshot(balanced(), endpoint(1), endpoint(2, on="n2"), endpoint(3))
    (target,) = targets_of(zone, "n1")
    assert (target.path, target.port) == ("acme/shop/e1", 8080)
    assert (target.vip, target.address) == (ip_address("10.0.1.100"), ip_address("10.0.1.11"))


def test_no_checks_without_a_health_block() -> None:
    assert targets_of(snapshot(balanced(health=None), endpoint(1)), "n1") == frozenset()


def test_only_the_host_of_an_endpoint_is_believed() -> None:
    zone = snapshot(balanced(), endpoint(1), endpoint(2, on="n2"))
    said = {"front": {name: Verdict(up=False) for name in ("e1", "e2", "gone")}}
    down = down_of({"/plum/health/acme/shop/n1": said}, zone)
    assert down == {"acme/shop": frozenset({("front", "e1")})}
