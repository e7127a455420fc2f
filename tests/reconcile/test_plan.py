"""The order of writes, checked by executing every prefix of a plan."""

from __future__ import annotations

from copy import deepcopy
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.abi import Ep, EpKey, FloodKey, Hop, HopKey, Route, SpanKey, Verdict
from daemon.compiler.node import compile_node
from daemon.compiler.result import Device, Runtime
from daemon.model.object import Domain, Endpoint, Node
from daemon.model.snapshot import Snapshot
from daemon.reconcile.plan import Erase, Write, perform, plan
from daemon.reconcile.tables import Tables, endpoints_by_slot

NODES = {
    name: Node.model_validate({"name": name, "id": number, "spec": {"vtep": f"192.0.2.{number}"}})
    for number, name in enumerate(("n1", "n2", "n3"), 1)
}


def domain(number: int, rules: int, via: int) -> Domain:
    rule = [
        {
            "name": f"r{n}",
            "protocol": "tcp",
            "ports": [1000 + 7 * n],
            "peers": [{"group": "web"}, {"cidr": f"172.16.{n}.0/24"}],
        }
        for n in range(rules)
    ]
    return Domain.model_validate(
        {
            "tenant": "acme",
            "name": f"d{number}",
            "id": number,
            "vnis": {"a": 100 * number, "b": 100 * number + 1},
            "router_ids": {"r": number},
            "spec": {
                "bridges": [
                    {"name": "a", "subnets": ["10.0.0.0/24"]},
                    {"name": "b", "subnets": ["10.0.1.0/24"]},
                ],
                "routers": [
                    {
                        "name": "r",
                        "interfaces": [
                            {"bridge": "a", "addresses": ["10.0.0.1/24"]},
                            {"bridge": "b", "addresses": ["10.0.1.1/24"]},
                        ],
                        "routes": [{"to": "0.0.0.0/0", "via": [f"10.0.0.{via}"]}],
                    }
                ],
                "groups": [{"name": "web", "labels": {"role": "web"}}],
                "policies": [{"name": "p", "ingress": rule}],
            },
        }
    )


def endpoint(number: int, owner: int, node: str, slot: int) -> Endpoint:
    return Endpoint.model_validate(
        {
            "tenant": "acme",
            "name": f"e{number}",
            "id": number,
            "slot": slot,
            "mac": f"02:65:00:00:00:{number:02x}",
            "addresses": [str(ip_address("10.0.0.0") + 10 + number)],
            "spec": {
                "domain": f"d{owner}",
                "bridge": "a",
                "node": node,
                "labels": {"role": "web"} if number % 2 else {},
            },
        }
    )


@st.composite
def states(draw: st.DrawFn) -> Tables:
    """What some zone compiles to on n1."""
    domains = {
        f"acme/d{n}": domain(n, draw(st.integers(0, 3)), draw(st.integers(2, 4))) for n in (1, 2)
    }
    numbers = draw(st.lists(st.integers(1, 12), unique=True, max_size=8))
    slots = draw(st.permutations(range(8)))
    endpoints = {}
    devices = {}
    for number, slot in zip(numbers, slots, strict=False):
        owner, node = draw(st.sampled_from((1, 2))), draw(st.sampled_from(("n1", "n1", "n2")))
        path = f"acme/d{owner}/e{number}"
        endpoints[path] = endpoint(number, owner, node, slot)
        if node == "n1":
            devices[path] = Device(draw(st.sampled_from((20, 40))) + number)
    snapshot = Snapshot(1, {}, NODES, domains, endpoints)
    return compile_node(snapshot, "n1", devices, Runtime(2)).packed


def check_references(tables: Tables) -> None:
    """Nothing an endpoint can reach points at a missing row."""
    verdicts = {key[:8] for key in tables["plum_verdict"]}
    spans = set(tables["plum_span"])
    for value in tables["plum_verdict"].values():
        verdict = Verdict.unpack(value)
        for index in range(verdict.spans):
            assert SpanKey(verdict.list, index).pack() in spans
    for value in tables["plum_ep"].values():
        ep = Ep.unpack(value)
        assert ep.vni.to_bytes(4, "little") in tables["plum_bridge"]
        for policy_set in (ep.ingress_set, ep.egress_set):
            assert policy_set == 0 or policy_set.to_bytes(8, "little") in verdicts
    for value in tables["plum_route"].values():
        route = Route.unpack(value)
        for index in range(route.hops):
            hop = tables["plum_hop"][HopKey(route.group, index).pack()]
            assert Hop.unpack(hop).vni.to_bytes(4, "little") in tables["plum_bridge"]
    for key in tables["plum_flood"]:
        flood = FloodKey.unpack(key)
        assert (
            flood.index == 0
            or FloodKey(flood.vni, flood.index - 1).pack() in (tables["plum_flood"])
        )


def check_owners(tables: Tables, before: Tables, after: Tables) -> None:
    """No slot is open for two endpoints, and none for one that is not its own."""
    open_slots = [Ep.unpack(value).slot for value in tables["plum_ep"].values()]
    assert len(open_slots) == len(set(open_slots))
    allowed = endpoints_by_slot(before).items() | endpoints_by_slot(after).items()
    assert endpoints_by_slot(tables).items() <= allowed


@settings(max_examples=150, deadline=None)
@given(states(), states())
def test_every_prefix_of_a_plan_is_sound_and_the_end_is_the_desired_state(
    before: Tables, after: Tables
) -> None:
    tables = deepcopy(before)
    for op in plan(after, before):
        perform(op, tables)
        check_owners(tables, before, after)
        assert set(tables["plum_ep"]) <= set(before["plum_ep"]) | set(after["plum_ep"])
        for table in ("plum_verdict", "plum_ep", "plum_route"):
            assert table in tables
        _check_without_flood_order(tables)
    assert tables == after
    check_references(tables)


def _check_without_flood_order(tables: Tables) -> None:
    check_references(tables | {"plum_flood": {}})


@settings(max_examples=60, deadline=None)
@given(states(), states(), st.integers(0, 40))
def test_a_plan_broken_off_anywhere_is_finished_by_the_next(
    before: Tables, after: Tables, stop: int
) -> None:
    tables = deepcopy(before)
    for op in plan(after, tables)[:stop]:
        perform(op, tables)
    for op in plan(after, tables):
        perform(op, tables)
    assert tables == after
    assert plan(after, tables) == []


@settings(max_examples=60, deadline=None)
@given(states(), states())
def test_endpoints_that_go_away_are_closed_before_anything_else(
    before: Tables, after: Tables
) -> None:
    ops = plan(after, before)
    for number, op in enumerate(ops):
        if isinstance(op, Erase) and op.table == "plum_ep":
            assert number == 0
    gone = set(before["plum_ep"]) - set(after["plum_ep"])
    if gone:
        assert isinstance(ops[0], Erase) and gone <= set(ops[0].keys)


def test_a_device_that_changes_owner_is_closed_in_between() -> None:
    key = EpKey(7).pack()

    def row(number: int) -> bytes:
        return Ep(0, 0, number, 3, 1, 100, 1450, 16, 0, bytes(6)).pack()

    ops = plan({"plum_ep": {key: row(2)}}, {"plum_ep": {key: row(1)}})
    assert ops == [Erase("plum_ep", (key,)), Write("plum_ep", {key: row(2)})]
    # The same endpoint under other rules stays open.
    other = Ep(9, 0, 1, 3, 1, 100, 1450, 16, 0, bytes(6)).pack()
    assert plan({"plum_ep": {key: other}}, {"plum_ep": {key: row(1)}}) == [
        Write("plum_ep", {key: other})
    ]
