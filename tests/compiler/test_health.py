"""Backends that fail their checks get no slots of the Maglev table; when all do, all get some."""

from __future__ import annotations

from typing import Any

from daemon.abi import Backend
from daemon.compiler.node import Cache, compile_node
from daemon.compiler.result import Compiled, Device, Runtime
from daemon.compiler.wide import wide
from daemon.model.object import Domain
from tests.compiler.build import domain, endpoint, snapshot

Pairs = frozenset[tuple[str, str]]


def balanced(**more: Any) -> Domain:
    front = {"name": "front", "bridge": "blue", "addresses": ["10.0.1.100"], "health": {}}
    front |= {"listeners": [{"port": 80}]}
    front |= {"backends": [{"endpoint": f"e{n}"} for n in (1, 2, 3)]} | more
    return domain(load_balancers=[front]).model_copy(update={"balancer_ids": {"front": 9}})


ZONE = snapshot(balanced(), *(endpoint(n, on=f"n{n}") for n in (1, 2, 3)))


def compiled(*down: str, zone: Any = ZONE, cache: Cache | None = None) -> Compiled:
    sick = (("acme/shop", frozenset(("front", name) for name in down)),) if down else ()
    devices = {"acme/shop/e1": Device(201)}
    return compile_node(zone, "n1", devices, Runtime(2, sick=sick), cache)


def backends(result: Compiled) -> set[bytes]:
    rows = result.rows["plum_backend"].values()
    return {row.addr for row in rows if isinstance(row, Backend)}


def addresses(*numbers: int) -> set[bytes]:
    return {wide(e.addresses[0]) for e in map(endpoint, numbers)}


def test_a_backend_that_is_down_gets_nothing_new() -> None:
    assert backends(compiled()) == addresses(1, 2, 3)
    assert backends(compiled("e2")) == addresses(1, 3)


def test_all_down_is_as_good_as_none() -> None:
    assert backends(compiled("e1", "e2", "e3")) == addresses(1, 2, 3)


def test_without_health_block_nobody_is_down() -> None:
    zone = snapshot(balanced(health=None), *ZONE.endpoints.values())
    assert backends(compiled("e2", zone=zone)) == addresses(1, 2, 3)


def test_a_cache_gives_what_a_fresh_compilation_gives() -> None:
    cache = Cache()
    for down in ((), ("e2",), ("e2", "e3"), ()):
        assert compiled(*down, cache=cache).packed == compiled(*down).packed


def test_another_domain_s_health_compiles_nothing_again() -> None:
    cache = Cache()
    compiled(cache=cache)
    before = cache.domains["acme/shop"]
    other = Runtime(2, sick=(("acme/other", frozenset({("front", "e1")})),))
    compile_node(ZONE, "n1", {"acme/shop/e1": Device(201)}, other, cache)
    assert cache.domains["acme/shop"] is before
