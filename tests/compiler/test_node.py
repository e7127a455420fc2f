"""A whole node: which domains, determinism, cache, epochs, references, order of writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from daemon.abi import (
    MAPS,
    BridgeKey,
    Ep,
    Epoch,
    FloodKey,
    HopKey,
    Index,
    RifKey,
    RouteKey,
    RouteKind,
    SpanKey,
    VerdictKey,
)
from daemon.compiler.node import Cache, compile_node
from daemon.compiler.order import APPLY_ORDER, changes
from daemon.compiler.result import Compiled, Device, Rows
from daemon.model.object import Endpoint
from tests.compiler.build import RUNTIME, domain, endpoint, snapshot
from tests.strategies import Zone, zone

SEEDS = range(60)


def node_of(given: Zone, name: str = "n1") -> Compiled:
    return compile_node(given.snapshot, name, given.devices, RUNTIME)


def packed(rows: Rows) -> dict[str, list[bytes]]:
    return {name: [k.pack() + v.pack() for k, v in table.items()] for name, table in rows.items()}


def test_rows_are_of_the_declared_types_and_maps() -> None:
    for seed in SEEDS:
        rows = node_of(zone(seed)).rows
        assert set(rows) == set(APPLY_ORDER)
        for name, table in rows.items():
            key_type, value_type = MAPS[name]
            for key, value in table.items():
                assert type(key) is key_type
                assert type(value) is value_type
                assert key_type.unpack(key.pack()) == key
                assert value_type.unpack(value.pack()) == value


def test_only_domains_with_a_local_endpoint_have_rows() -> None:
    given = snapshot(domain(), endpoint(1))
    assert node_rows(given, "n1")["plum_bridge"]
    elsewhere = node_rows(given, "n2")
    used = {name for name, table in elsewhere.items() if table}
    assert used == {"plum_config", "plum_node", "plum_vtep"}


def node_rows(given: Any, name: str, device: int = 9) -> Rows:
    devices = {"acme/shop/e1": Device(device)}
    return compile_node(given, name, devices, RUNTIME).rows


def test_order_of_objects_does_not_matter() -> None:
    for seed in SEEDS:
        given = zone(seed)
        random = Random(seed)
        s = given.snapshot

        def shuffled(items: Any, random: Random = random) -> dict[str, Any]:
            return dict(random.sample(list(items.items()), len(items)))

        mixed = replace(s, nodes=shuffled(s.nodes), domains=shuffled(s.domains),
                        endpoints=shuffled(s.endpoints))  # fmt: skip
        other = compile_node(mixed, "n1", shuffled(given.devices), RUNTIME)
        assert packed(other.rows) == packed(node_of(given).rows)


def test_rows_do_not_depend_on_the_hash_seed() -> None:
    root = Path(__file__).resolve().parents[2]
    program = (
        "from tests.compiler.test_node import node_of, packed, zone\n"
        "print([packed(node_of(zone(s)).rows) for s in range(30)])\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def epochs(rows: Rows) -> set[Any]:
    return set(rows["plum_epoch"].values())


@pytest.mark.parametrize(
    "changed",
    [
        {"default": {"ingress": "allow"}},
        {"bridges": [{"name": "blue", "mtu": 1300}, {"name": "red"}]},
        {"policies": [{"name": "p", "ingress": [{"name": "r"}]}]},
        {"routers": [{"name": "r", "interfaces": [{"bridge": "red", "addresses": ["10.0.2.1/24"]}],
                      "routes": [{"to": "0.0.0.0/0", "blackhole": True}]}]},
    ],
)  # fmt: skip
def test_epoch_changes_with_what_decides(changed: dict[str, Any]) -> None:
    bridges = [{"name": "blue"}, {"name": "red"}]
    old = node_rows(snapshot(domain(bridges=bridges), endpoint(1)), "n1")
    again = node_rows(snapshot(domain(bridges=bridges), endpoint(1)), "n1")
    new = node_rows(snapshot(domain(**{"bridges": bridges, **changed}), endpoint(1)), "n1")
    assert epochs(old) == epochs(again)
    assert epochs(old) != epochs(new)


def test_epoch_changes_with_a_pair_a_neighbour_and_the_device() -> None:
    base = epochs(node_rows(snapshot(domain(), endpoint(1)), "n1"))
    pair = endpoint(1, allowed_pairs=[{"address": "203.0.113.0/24"}])
    assert epochs(node_rows(snapshot(domain(), pair), "n1")) != base
    two = snapshot(domain(), endpoint(1), endpoint(2, on="n2"))
    assert epochs(node_rows(two, "n1")) != base
    assert epochs(node_rows(snapshot(domain(), endpoint(1)), "n1", device=10)) != base


def test_a_cached_domain_is_the_same_and_an_error_stays_in_its_domain() -> None:
    given = zone(next(s for s in range(99) if len(zone(s).snapshot.domains) == 2))
    cache = Cache()
    first = compile_node(given.snapshot, "n1", given.devices, RUNTIME, cache)
    known = dict(cache.domains)
    second = compile_node(given.snapshot, "n1", given.devices, RUNTIME, cache)
    assert packed(first.rows) == packed(second.rows)
    assert known and all(cache.domains[path] is known[path] for path in known)
    fewer = dict(list(given.devices.items())[1:])
    third = compile_node(given.snapshot, "n1", fewer, RUNTIME, cache)
    assert packed(third.rows) == packed(compile_node(given.snapshot, "n1", fewer, RUNTIME).rows)


def test_a_domain_that_does_not_compile_closes_only_itself() -> None:
    rules = [
        {"name": f"r{i}", "protocol": "tcp", "ports": [2 * i + wide],
         "peers": [{"cidr": "11.0.0.0/8" if wide else f"11.0.{i >> 4}.{(i & 15) << 4}/28"}]}
        for i in range(4000) for wide in (1, 0)
    ]  # fmt: skip
    bad = domain(policies=[{"name": "p", "ingress": rules}])
    good = domain().model_copy(update={"name": "good", "id": 8, "vnis": {"blue": 300, "red": 301}})
    spec = endpoint(2).spec.model_copy(update={"domain": "good"})
    other = endpoint(2).model_copy(update={"spec": spec})
    both = replace(
        snapshot(bad),
        domains={"acme/shop": bad, "acme/good": good},
        endpoints={"acme/shop/e1": endpoint(1), "acme/good/e2": other},
    )
    devices = {"acme/shop/e1": Device(9), "acme/good/e2": Device(10)}
    result = compile_node(both, "n1", devices, RUNTIME)
    assert list(result.errors) == ["acme/shop"]
    (ep,) = result.rows["plum_ep"].values()
    assert isinstance(ep, Ep)
    assert ep.domain == 8


# ---- references


def dangling(rows: Any, sets: dict[int, int]) -> Iterator[str]:
    """Rows that point at what is not there. `sets`: rows a complete set has."""
    count: dict[int, int] = {}
    for key, verdict in rows["plum_verdict"].items():
        assert isinstance(key, VerdictKey)
        count[key.set] = count.get(key.set, 0) + 1
        for i in range(verdict.spans):
            if SpanKey(verdict.list, i) not in rows["plum_span"]:
                yield f"{key} -> span {i}"
    bridges, nodes, rifs = rows["plum_bridge"], rows["plum_node"], rows["plum_rif"]
    routers = {key.router for key in rifs}
    for key, ep in rows["plum_ep"].items():
        for number in (ep.ingress_set, ep.egress_set):
            if number and count.get(number, 0) != sets[number]:
                yield f"{key} -> set {number}"
        if BridgeKey(ep.vni) not in bridges:
            yield f"{key} -> bridge"
    for key, route in rows["plum_route"].items():
        assert isinstance(key, RouteKey)
        if route.kind == RouteKind.CONNECTED and RifKey(key.router, route.vni) not in rifs:
            yield f"{key} -> rif"
        for i in range(route.hops):
            if HopKey(route.group, i) not in rows["plum_hop"]:
                yield f"{key} -> hop {i}"
    for key, hop in rows["plum_hop"].items():
        if BridgeKey(hop.vni) not in bridges:
            yield f"{key} -> bridge"
    for key in (*rifs, *rows["plum_mac"], *rows["plum_flood"]):
        if BridgeKey(key.vni) not in bridges:
            yield f"{key} -> bridge"
    for name in ("plum_mac", "plum_host", "plum_flood"):
        for key, row in rows[name].items():
            if row.node and Index(row.node) not in nodes:
                yield f"{key} -> node"
    for key, port in rows["plum_mac"].items():
        if port.router and RifKey(port.router, key.vni) not in rifs:
            yield f"{key} -> rif"
    for key, host in rows["plum_host"].items():
        if host.router and (
            host.router not in routers or (host.vni and RifKey(host.router, host.vni) not in rifs)
        ):
            yield f"{key} -> rif"
        if host.vni and BridgeKey(host.vni) not in bridges:
            yield f"{key} -> bridge"
    for key in rows["plum_flood"]:
        assert isinstance(key, FloodKey)
        if key.index and FloodKey(key.vni, int(key.index) - 1) not in rows["plum_flood"]:
            yield f"{key} -> the one before"


def set_sizes(*states: Rows) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for rows in states:
        mine: dict[int, int] = {}
        for key in rows["plum_verdict"]:
            assert isinstance(key, VerdictKey)
            mine[key.set] = mine.get(key.set, 0) + 1
        assert all(sizes.get(number, size) == size for number, size in mine.items())
        sizes.update(mine)
    return sizes


def test_every_reference_is_there() -> None:
    for seed in range(300):
        given = zone(seed)
        for name in given.snapshot.nodes:
            rows = node_of(given, name).rows
            assert list(dangling(rows, set_sizes(rows))) == []


def test_no_write_leaves_a_dangling_reference_behind() -> None:
    """From any zone to any other, and from nothing and to nothing, write by write."""
    nothing: Rows = {name: {} for name in APPLY_ORDER}
    states = [nothing, *(node_of(zone(seed)).rows for seed in range(30)), nothing]
    for old, new in pairwise(states):
        sizes = set_sizes(old, new)
        kernel = {name: dict(table) for name, table in old.items()}
        for map_name, key, value in changes(old, new):
            if value is None:
                del kernel[map_name][key]
            else:
                kernel[map_name][key] = value
            assert list(dangling(kernel, sizes)) == [], (map_name, key, value)
        assert kernel == new


def test_epochs_are_the_last_writes() -> None:
    old, new = node_of(zone(1)).rows, node_of(zone(2)).rows
    maps = [write.map for write in changes(old, new)]
    assert "plum_epoch" in maps
    first = maps.index("plum_epoch")
    assert set(maps[first:]) == {"plum_epoch"}
    assert all(isinstance(value, Epoch) for value in new["plum_epoch"].values())


def test_fifty_thousand_remote_endpoints_compile_in_a_second() -> None:
    template = endpoint(1, on="n2")
    far = [
        Endpoint.model_construct(
            tenant="acme",
            name=f"r{i}",
            spec=template.spec,
            id=i,
            slot=i % 16384,
            mac=f"02:66:00:{i >> 16:02x}:{i >> 8 & 255:02x}:{i & 255:02x}",
            addresses=(IPv4Address((10 << 24) + 4096 + i), IPv6Address((0xFD00 << 112) + i)),
        )
        for i in range(50_000)
    ]
    given = snapshot(domain(), endpoint(1), *far)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        rows = node_rows(given, "n1")
        took.append(time.perf_counter() - start)
    assert len(rows["plum_host"]) == 100_001
    assert min(took) < 1.0, took
