"""Who is taken for dead, and how long it takes to believe it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from daemon.store.interface import Compare, Delete, Listing, Put, Store, StoreError
from daemon.zone import liveness
from daemon.zone.keys import ALIVE, MESH, leader_key
from daemon.zone.liveness import (
    BETTER_S,
    WORSE_S,
    Bench,
    Life,
    Witnesses,
    judge,
    read_liveness,
    watch_over,
)
from daemon.zone.liveness import NODES as NODES_AT
from tests.store.conftest import BACKENDS, Backend

OFFICE = leader_key("liveness")
NODES = frozenset({"n1", "n2", "n3"})


def seen(leased: str, **unreachable: str) -> Witnesses:
    said = {node: frozenset(those.split()) for node, those in unreachable.items()}
    return Witnesses(NODES, frozenset(leased.split()), said)


@pytest.mark.parametrize(
    ("witnesses", "state", "why"),
    [
        (seen("n1 n2 n3"), Life.ALIVE, ""),
        (seen("n1 n2 n3", n2="n1"), Life.ALIVE, ""),  # one of two: no majority
        (seen("n1 n2 n3", n2="n1", n3="n1"), Life.SUSPECT, "n2, n3 cannot reach it"),
        (seen("n2 n3"), Life.SUSPECT, "it forwards"),
        (seen("n2 n3", n2="n1"), Life.SUSPECT, "it forwards"),
        (seen("n2 n3", n2="n1", n3="n1"), Life.DEAD, "neither"),
        (seen("n2", n2="n1", n3=""), Life.DEAD, "neither"),  # n3 is no witness: it is gone too
        (seen(""), Life.SUSPECT, "nobody is left"),
    ],
)
def test_two_witnesses_decide(witnesses: Witnesses, state: Life, why: str) -> None:
    found, said = judge("n1", witnesses)
    assert found is state
    assert why in said


def test_a_change_is_believed_when_it_lasts_and_a_flap_is_not() -> None:
    bench = Bench()
    well, gone = seen("n1 n2 n3"), seen("n2 n3")
    assert {node: life.state for node, life in bench.look(well, 0).items()} == dict.fromkeys(
        sorted(NODES), Life.ALIVE
    )
    assert bench.look(gone, 10) == {}
    assert bench.look(well, 11) == {}  # it was nothing
    assert bench.look(gone, 12) == {}
    assert bench.look(gone, 12 + WORSE_S - 0.1) == {}
    assert bench.look(gone, 12 + WORSE_S)["n1"].state is Life.SUSPECT
    assert bench.look(well, 20) == {}
    assert bench.look(well, 20 + BETTER_S)["n1"].state is Life.ALIVE


def test_a_wall_clock_that_is_set_back_delays_nothing() -> None:
    bench = Bench()
    bench.look(seen("n1 n2 n3"), 0, wall=100_000)
    bench.look(seen("n2 n3"), 10, wall=100_010)
    life = bench.look(seen("n2 n3"), 10 + WORSE_S, wall=96_000)["n1"]
    assert life.state is Life.SUSPECT
    assert life.since == "1970-01-02T02:40:00+00:00"


def test_another_reason_for_the_same_state_keeps_its_beginning() -> None:
    bench = Bench()
    bench.look(seen("n1 n2 n3"), 0)
    bench.look(seen("n2 n3"), 10)
    first = bench.look(seen("n2 n3"), 20)["n1"]
    cut = seen("n1 n2 n3", n2="n1", n3="n1")
    bench.look(cut, 30)
    second = bench.look(cut, 40)["n1"]
    assert (first.state, second.state) == (Life.SUSPECT, Life.SUSPECT)
    assert first.why != second.why
    assert first.since == second.since


# The leader's job, on a real store


class Counted:
    """The store, and how often it was listed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.listings = 0

    async def list(self, prefix: str) -> Listing:
        self.listings += 1
        return await self._store.list(prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(params=sorted(BACKENDS))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made: Backend = BACKENDS[request.param]()
    async with await made.open() as opened:
        yield opened
    made.dispose()


@pytest.fixture
async def judged(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counted]:
    """n1 and n2 live; the job runs."""
    monkeypatch.setattr(liveness, "WORSE_S", 0.2)
    monkeypatch.setattr(liveness, "BETTER_S", 0.2)
    living = [
        Put(f"{prefix}{node}", b"{}") for prefix in (NODES_AT, ALIVE) for node in ("n1", "n2")
    ]
    office = await store.commit([], [*living, Put(OFFICE, b"")])
    counted = Counted(store)
    job = asyncio.create_task(watch_over(cast(Store, counted), Compare(OFFICE, office.revision)))
    await until(store, {"n1": "alive", "n2": "alive"})
    yield counted
    job.cancel()
    await asyncio.wait([job])


async def until(store: Store, wanted: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while {node: life.state for node, life in (await read_liveness(store)).items()} != wanted:
            await asyncio.sleep(0.01)


async def test_who_changes_is_judged_anew_and_nobody_is_asked(
    judged: Counted, store: Store
) -> None:
    listed = judged.listings
    await store.commit([], [Delete(f"{ALIVE}n2")])
    await until(store, {"n1": "alive", "n2": "suspect"})
    await store.commit([], [Put(f"{MESH}n1", b'{"unreachable": ["n2"]}')])
    await until(store, {"n1": "alive", "n2": "dead"})
    await store.commit([], [Put(f"{ALIVE}n2", b"{}"), Delete(f"{MESH}n1")])
    await until(store, {"n1": "alive", "n2": "alive"})
    await store.commit([], [Put(f"{NODES_AT}n3", b"{}"), Put(f"{ALIVE}n3", b"{}")])
    await until(store, {"n1": "alive", "n2": "alive", "n3": "alive"})
    await store.commit([], [Delete(f"{NODES_AT}n2"), Delete(f"{ALIVE}n2")])
    await until(store, {"n1": "alive", "n3": "alive"})
    assert judged.listings == listed


async def test_a_deposed_leader_ends_at_its_first_write(store: Store) -> None:
    await store.commit([], [Put(f"{NODES_AT}n1", b"{}"), Put(f"{ALIVE}n1", b"{}")])
    with pytest.raises(StoreError, match="another node leads"):
        await watch_over(store, Compare(OFFICE, 1))
    assert await read_liveness(store) == {}


def test_a_node_that_leaves_while_in_doubt_is_not_looked_at_again() -> None:
    bench = Bench()
    bench.look(seen("n1 n2 n3"), 0)
    assert bench.due() is None
    bench.look(seen("n2 n3"), 10)
    assert bench.due() == 10 + WORSE_S
    bench.look(Witnesses(frozenset({"n2", "n3"}), frozenset({"n2", "n3"}), {}), 11)
    assert bench.due() is None
