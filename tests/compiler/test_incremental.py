"""However a compilation came about, from nothing or from the last one: the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from daemon.compiler import incremental
from daemon.compiler import node as compiler
from daemon.compiler.node import Cache, compile_node
from daemon.compiler.result import Compiled, Device
from daemon.model.object import Endpoint
from daemon.model.snapshot import Snapshot
from tests.compiler.build import RUNTIME, domain, endpoint, snapshot
from tests.strategies import LABELS, Zone, zone

SEEDS = range(50)
STEPS = 12


class Editor:
    """Random edits of a zone, as clumsy as no validation would let through."""

    def __init__(self, given: Zone, seed: int) -> None:
        self.random = Random(seed)
        self.snapshot = given.snapshot
        self.devices = dict(given.devices)
        self.first = dict(given.snapshot.endpoints)
        self.ifindex = 5000

    def edit(self) -> None:
        edits: list[Callable[[], None]] = [
            *[self.remove, self.add, self.add, self.relabel, self.move, self.steal] * 2,
            self.device,
            self.domain,
            self.nodes,
        ]
        for _ in range(self.random.randint(1, 3)):
            self.random.choice(edits)()

    def put(self, path: str, **fields: Any) -> None:
        old = self.snapshot.endpoints.get(path) or self.first[path]
        endpoints = {**self.snapshot.endpoints, path: old.model_copy(update=fields)}
        self.snapshot = replace(self.snapshot, endpoints=endpoints)

    def spec(self, path: str, **fields: Any) -> None:
        old = self.snapshot.endpoints.get(path) or self.first[path]
        self.put(path, spec=old.spec.model_copy(update=fields))

    def any(self) -> str:
        return self.random.choice(sorted(self.first))

    def remove(self) -> None:
        left = {p: e for p, e in self.snapshot.endpoints.items() if p != self.any()}
        self.snapshot = replace(self.snapshot, endpoints=left)

    def add(self) -> None:
        """One that was removed, or a new one beside it."""
        path = self.any()
        if path not in self.snapshot.endpoints:
            return self.put(path)
        like = self.first[path]
        number = len(self.first) + 100
        new = like.model_copy(
            update={
                "name": f"x{number}",
                "id": 9000 + number,
                "slot": 900 + number,
                "mac": f"02:cc:00:00:{number >> 8:02x}:{number & 255:02x}",
                "addresses": tuple(address + 50 + number for address in like.addresses),
            }
        )
        path = f"{path.rpartition('/')[0]}/{new.name}"
        self.first[path] = new
        if self.random.random() < 0.8:
            self.ifindex += 1
            self.devices[path] = Device(self.ifindex)
        self.put(path)

    def relabel(self) -> None:
        self.spec(self.any(), labels=self.random.choice(LABELS))

    def move(self) -> None:
        self.spec(self.any(), node=self.random.choice(("n1", "n1", "n2", "n3", "nowhere")))

    def steal(self) -> None:
        """The addresses or the MAC of another, or of a router."""
        path, other = self.any(), self.first[self.any()]
        addresses = self.random.choice((other.addresses, self.first[path].addresses))
        if self.random.random() < 0.2:
            routers = self.snapshot.domains[path.rpartition("/")[0]].spec.routers
            addresses = tuple(
                a.ip for router in routers for i in router.interfaces for a in i.addresses
            )
        self.put(
            path, addresses=addresses, mac=self.random.choice((other.mac, "02:dd:00:00:00:01"))
        )

    def device(self) -> None:
        path = self.any()
        if self.devices.pop(path, None) is None:
            self.ifindex += 1
            self.devices[path] = Device(self.ifindex, tap=self.random.random() < 0.5)

    def domain(self) -> None:
        path = self.random.choice(sorted(self.snapshot.domains))
        old = self.snapshot.domains[path]
        flip = tuple(b.model_copy(update={"flood": not b.flood}) for b in old.spec.bridges)
        new = old.model_copy(update={"spec": old.spec.model_copy(update={"bridges": flip})})
        self.snapshot = replace(self.snapshot, domains={**self.snapshot.domains, path: new})

    def nodes(self) -> None:
        nodes = dict(self.snapshot.nodes)
        if nodes.pop("n3", None) is None:
            nodes["n3"] = nodes["n1"].model_copy(update={"name": "n3", "id": 77})
        self.snapshot = replace(self.snapshot, nodes=nodes)


def assert_same(one: Compiled, other: Compiled) -> None:
    assert one.packed == other.packed
    assert one.rows == other.rows
    assert one.names == other.names
    assert one.mtu == other.mtu
    assert one.errors.keys() == other.errors.keys()


def test_incremental_is_full_on_random_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: Counter[bool] = Counter()

    def counted(*arguments: Any) -> Any:
        answer = incremental.step(*arguments)
        ways[answer is not None] += 1
        return answer

    monkeypatch.setattr(compiler, "step", counted)
    for seed in SEEDS:
        editor, cache = Editor(zone(seed), seed), Cache()
        compile_node(editor.snapshot, "n1", editor.devices, RUNTIME, cache)
        for _ in range(STEPS):
            editor.edit()
            given = (editor.snapshot, "n1", editor.devices, RUNTIME)
            assert_same(compile_node(*given, cache), compile_node(*given))
    assert ways[True] > 50  # else this shows nothing
    assert ways[False] > 50


def crowd(count: int) -> dict[str, Endpoint]:
    """Endpoints on n2 but for the first, all with addresses and MACs of their own."""
    made = {}
    for number in range(1, count + 1):
        one = endpoint(number % 200 + 1, "n2" if number > 1 else "n1")
        new = {
            "name": f"e{number}",
            "id": number,
            "mac": f"02:65:00:01:{number >> 8:02x}:{number & 255:02x}",
            "addresses": tuple(a + 256 * (number // 200) for a in one.addresses),
        }
        made[f"acme/shop/e{number}"] = one.model_copy(update=new)
    return made


def test_an_endpoint_elsewhere_renews_no_more_than_its_rows_and_the_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoints = crowd(300)
    last = endpoints.pop("acme/shop/e300")
    devices = {"acme/shop/e1": Device(201)}
    cache = Cache()
    before = replace(snapshot(domain()), endpoints=endpoints)
    first = compile_node(before, "n1", devices, RUNTIME, cache)
    monkeypatch.delattr(compiler, "compile_whole")  # it must do without
    after: Snapshot = replace(before, endpoints={**endpoints, "acme/shop/e300": last})
    second = compile_node(after, "n1", devices, RUNTIME, cache)
    changed = {
        name: table.items() - first.packed[name].items()
        for name, table in second.packed.items()
        if table != first.packed[name]
    }
    assert {name: len(rows) for name, rows in changed.items()} == {
        "plum_host": 1,
        "plum_mac": 1,
        "plum_epoch": 1,
    }
    third = compile_node(before, "n1", devices, RUNTIME, cache)
    assert_same(third, first)  # and the epoch is what it was


def test_after_an_exception_everything_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints, cache = crowd(5), Cache()
    devices = {"acme/shop/e1": Device(201)}
    before = replace(snapshot(domain()), endpoints=endpoints)
    compile_node(before, "n1", devices, RUNTIME, cache)
    fewer = dict(list(endpoints.items())[:4])
    after = replace(before, endpoints=fewer)
    with monkeypatch.context() as broken:
        broken.setattr(compiler, "step", None)
        with pytest.raises(TypeError):
            compile_node(after, "n1", devices, RUNTIME, cache)
    given = (after, "n1", devices, RUNTIME)
    assert_same(compile_node(*given, cache), compile_node(*given))


def assert_follows(
    before: Snapshot, after: Snapshot, devices: dict[str, Device], later: dict[str, Device]
) -> None:
    cache = Cache()
    compile_node(before, "n1", devices, RUNTIME, cache)
    given = (after, "n1", later, RUNTIME)
    assert_same(compile_node(*given, cache), compile_node(*given))


def test_a_local_endpoint_that_joins_a_group_gets_and_gives_up_policy_sets() -> None:
    shop = domain(
        groups=[{"name": "web", "labels": {"app": "web"}}],
        policies=[{"name": "p", "applies_to": "web", "ingress": [{"name": "r"}]}],
    )
    outside, inside = endpoint(1), endpoint(1, labels={"app": "web"})
    one, other = snapshot(shop, outside, endpoint(2)), snapshot(shop, inside, endpoint(2))
    devices = {"acme/shop/e1": Device(201), "acme/shop/e2": Device(202)}
    other = replace(other, domains=one.domains, nodes=one.nodes)
    assert_follows(one, other, devices, devices)
    assert_follows(other, one, devices, devices)


@pytest.mark.parametrize("taken", [{"addresses": ["10.0.1.11"]}, {"mac": "02:65:00:00:00:01"}])
def test_an_endpoint_without_device_keeps_its_address_and_mac(taken: dict[str, Any]) -> None:
    thief = endpoint(3, "n2", **{k: v for k, v in taken.items() if k == "addresses"})
    thief = thief.model_copy(update={k: v for k, v in taken.items() if k == "mac"})
    one = snapshot(domain(), endpoint(1), endpoint(2))
    other = replace(one, endpoints={**one.endpoints, "acme/shop/e3": thief})
    devices = {"acme/shop/e2": Device(202)}
    assert_follows(one, other, devices, devices)
    assert_follows(one, other, devices, {**devices, "acme/shop/e1": Device(201)})
    assert_follows(other, one, devices, devices)
