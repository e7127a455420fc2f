"""Allocation: smallest free, kept while unchanged, exhausted with a clear error."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.model.manifest import parse_manifests, read_manifests
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Store
from daemon.zone.addresses import Pool, covers, not_a_host
from daemon.zone.allocate_endpoint import MAX_SLOTS
from daemon.zone.apply import apply, delete
from daemon.zone.counters import FIRST_VNI, LAST_VNI, Counters, Numbers
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.plan import Action, make_plan
from daemon.zone.read import read_snapshot

ZONE = """
{kind: node, name: n1, spec: {vtep: 192.0.2.1}}
---
{kind: node, name: n2, spec: {vtep: 192.0.2.2}}
---
{kind: tenant, name: t}
"""


def domain(bridges: str, more: str = "") -> str:
    return f"{{kind: domain, name: d, tenant: t, spec: {{bridges: [{bridges}]{more}}}}}"


WEB = "{name: web, subnets: [10.0.0.0/29, 'fd00::/64']}"
ROUTER = ", routers: [{name: gw, interfaces: [{bridge: web, addresses: [10.0.0.1/29]}]}]"


def endpoint(name: str, more: str = "", bridge: str = "web", node: str = "n1") -> str:
    spec = f"domain: d, bridge: {bridge}, node: {node}{more}"
    return f"{{kind: endpoint, name: {name}, tenant: t, spec: {{{spec}}}}}"


async def put(store: Store, *texts: str) -> Snapshot:
    await apply(store, parse_manifests("\n---\n".join(texts)), actor="test")
    return await read_snapshot(store)


def addresses(snapshot: Snapshot, name: str) -> list[str]:
    return [str(address) for address in snapshot.endpoints[f"t/d/{name}"].addresses]


@pytest.mark.asyncio
async def test_an_endpoint_gets_the_smallest_free_address_of_each_subnet(store: Store) -> None:
    zone = await put(
        store,
        ZONE,
        domain(WEB, ROUTER),
        endpoint("given", ", addresses: [10.0.0.3]"),
        endpoint("pair", ", allowed_pairs: [{address: 10.0.0.4}, {address: 0.0.0.0/0}]"),
        endpoint("next"),
    )
    assert addresses(zone, "given") == ["10.0.0.3"]
    assert addresses(zone, "pair") == ["10.0.0.2", "fd00::1"]
    assert addresses(zone, "next") == ["10.0.0.5", "fd00::2"]


@pytest.mark.asyncio
async def test_ids_slots_and_macs_follow_the_contract(store: Store) -> None:
    zone = await put(
        store,
        ZONE,
        domain(WEB, ROUTER),
        endpoint("a"),
        endpoint("b", node="n2"),
        endpoint("c", ", mac: '02:00:00:00:00:01'"),
    )
    a, b, c = (zone.endpoints[f"t/d/{name}"] for name in "abc")
    assert [(e.id, e.slot) for e in (a, b, c)] == [(1, 0), (2, 0), (3, 1)]
    assert [e.mac for e in (a, b, c)] == [
        "02:65:00:00:00:01",
        "02:65:00:00:00:02",
        "02:00:00:00:00:01",
    ]
    assert zone.domains["t/d"].vnis == {"web": FIRST_VNI}
    assert zone.domains["t/d"].router_ids == {"gw": 1}
    assert [zone.nodes[name].id for name in ("n1", "n2")] == [1, 2]


@pytest.mark.asyncio
async def test_slots_are_used_again_and_ids_are_not(store: Store) -> None:
    await put(store, ZONE, domain(WEB), endpoint("a"), endpoint("b"))
    await delete(store, [Ref.parse(Kind.ENDPOINT, "t/d/a")], actor="test")
    zone = await put(store, endpoint("c"))
    assert (zone.endpoints["t/d/c"].slot, zone.endpoints["t/d/c"].id) == (0, 3)


@pytest.mark.asyncio
async def test_a_mac_that_somebody_was_given_is_not_allocated(store: Store) -> None:
    zone = await put(
        store, ZONE, domain(WEB), endpoint("a", ", mac: '02:65:00:00:00:02'"), endpoint("b")
    )
    assert zone.endpoints["t/d/b"].id == 3


@pytest.mark.asyncio
async def test_what_is_unchanged_keeps_its_allocation(store: Store) -> None:
    first = await put(store, ZONE, domain(WEB), endpoint("a"), endpoint("b"))
    second = await put(
        store, domain(WEB, ROUTER.replace("0.1/", "0.6/")), endpoint("b", ", labels: {x: y}")
    )
    for name in ("a", "b"):
        before, after = first.endpoints[f"t/d/{name}"], second.endpoints[f"t/d/{name}"]
        assert after.model_copy(update={"spec": before.spec}) == before
    assert second.domains["t/d"].vnis == first.domains["t/d"].vnis


@pytest.mark.asyncio
async def test_a_move_to_another_node_gives_a_slot_there_and_keeps_the_addresses(
    store: Store,
) -> None:
    first = await put(store, ZONE, domain(WEB), endpoint("x", node="n2"), endpoint("a"))
    second = await put(store, endpoint("a", node="n2"))
    before, after = first.endpoints["t/d/a"], second.endpoints["t/d/a"]
    assert (before.slot, after.slot) == (0, 1)
    assert (before.addresses, before.mac, before.id) == (after.addresses, after.mac, after.id)


@pytest.mark.asyncio
async def test_a_move_to_another_bridge_gives_addresses_there(store: Store) -> None:
    bridges = WEB + ", {name: db, subnets: [10.0.1.0/24]}"
    await put(store, ZONE, domain(bridges), endpoint("a"))
    zone = await put(store, endpoint("a", bridge="db"))
    assert addresses(zone, "a") == ["10.0.1.1"]


@pytest.mark.asyncio
async def test_a_new_subnet_reaches_endpoints_nobody_wrote(store: Store) -> None:
    await put(store, ZONE, domain("{name: web, subnets: [10.0.0.0/29]}"), endpoint("a"))
    result = await apply(store, parse_manifests(domain(WEB)), actor="test")
    assert [(c.action, c.ref.path) for c in result.changes] == [
        (Action.CHANGED, "t/d"),
        (Action.CHANGED, "t/d/a"),
    ]
    assert "+  - fd00::1" in result.changes[1].diff()
    assert addresses(await read_snapshot(store), "a") == ["10.0.0.1", "fd00::1"]


@pytest.mark.asyncio
async def test_a_full_subnet_is_named_with_its_size_and_use(store: Store) -> None:
    names = [f"e{i}" for i in range(5)]
    await put(store, ZONE, domain(WEB, ROUTER), *(endpoint(name) for name in names))
    with pytest.raises(ZoneError) as caught:
        await put(store, endpoint("late"))
    (problem,) = caught.value.problems
    assert problem.path == "endpoint t/d/late: spec.addresses"
    assert problem.message == (
        "subnet 10.0.0.0/29 of bridge web is full: "
        "6 host addresses, 5 used by endpoints, 1 by routers and load balancers"
    )
    assert caught.value.code == CONFLICT


@pytest.mark.asyncio
async def test_a_full_node_is_named(store: Store) -> None:
    zone = await put(store, ZONE, domain("{name: web}"), endpoint("a"))
    template = zone.endpoints["t/d/a"]
    full = {
        f"t/d/e{slot}": template.model_copy(update={"name": f"e{slot}", "slot": slot, "id": slot})
        for slot in range(MAX_SLOTS)
    }
    for slot, item in enumerate(full.values()):
        attach = item.spec.attach.model_copy(update={"namespace": f"ns{slot}"})
        spec = item.spec.model_copy(update={"attach": attach})
        mac = f"02:00:00:00:{slot >> 8:02x}:{slot & 255:02x}"
        full[f"t/d/{item.name}"] = item.model_copy(update={"spec": spec, "mac": mac})
    crowded = Snapshot(1, zone.tenants, zone.nodes, zone.domains, full)
    with pytest.raises(ZoneError, match="node n1 is full: it hosts 16384 endpoints"):
        make_plan(crowded, Counters(endpoint=99999), parse_manifests(endpoint("new")).manifests)


def test_vnis_come_round_only_after_all_others() -> None:
    numbers = Numbers(Counters(vni=LAST_VNI - 1))
    assert numbers.next_vni(set()) == LAST_VNI
    assert numbers.next_vni({FIRST_VNI, FIRST_VNI + 1}) == FIRST_VNI + 2


@pytest.mark.asyncio
async def test_a_bridge_that_comes_back_gets_another_vni(store: Store) -> None:
    await put(store, ZONE, domain("{name: a}"))
    await put(store, domain("{name: b}"))
    zone = await put(store, domain("{name: a}"))
    assert zone.domains["t/d"].vnis == {"a": FIRST_VNI + 2}


@pytest.mark.asyncio
async def test_a_thousand_endpoints_are_one_transaction_within_two_seconds(store: Store) -> None:
    await put(store, ZONE, domain("{name: web, subnets: [10.0.0.0/20, 'fd00::/64']}"))
    documents = [
        {
            "kind": "endpoint",
            "name": f"e{i}",
            "tenant": "t",
            "spec": {"domain": "d", "bridge": "web", "node": f"n{i % 2 + 1}"},
        }
        for i in range(1000)
    ]
    revision = (await read_snapshot(store)).revision
    start = time.perf_counter()
    result = await apply(store, read_manifests(documents), actor="test")
    assert time.perf_counter() - start < 2
    assert result.revision == revision + 1
    assert_nothing_is_given_twice(await read_snapshot(store))


def assert_nothing_is_given_twice(zone: Snapshot) -> None:
    endpoints = list(zone.endpoints.values())

    def once(what: list[object]) -> None:
        assert len(set(what)) == len(what)

    once([e.id for e in endpoints])
    once([(e.spec.node, e.slot) for e in endpoints])
    once([(e.tenant, e.spec.domain, a) for e in endpoints for a in e.addresses])
    once([(e.tenant, e.spec.domain, e.spec.bridge, e.mac) for e in endpoints])


@given(
    prefix=st.integers(24, 32),
    used=st.sets(st.integers(0, 255)),
    routers=st.sets(st.integers(0, 255), max_size=3),
    pairs=st.lists(st.tuples(st.integers(0, 255), st.integers(26, 32)), max_size=3),
)
def test_a_pool_gives_exactly_the_free_addresses_in_order(
    prefix: int, used: set[int], routers: set[int], pairs: list[tuple[int, int]]
) -> None:
    base = int(ip_address("10.0.0.0"))
    subnet = ip_network(f"10.0.0.0/{prefix}")
    reserved = [ip_network((base + number, size), strict=False) for number, size in pairs]
    blocked = [net for net in reserved if covers(subnet, net) and net != subnet]
    pool = Pool(subnet, {base + number for number in routers}, reserved)
    for number in used:
        pool.use(ip_address(base + number))
    expected = [
        address
        for address in subnet
        if not_a_host(address, subnet) is None
        and int(address) - base not in used | routers
        and not any(address in net for net in blocked)
    ]
    got = []
    while (address := pool.take()) is not None:
        got.append(address)
    assert got == expected
