"""One leader at a time, and nothing written by one that only thinks it leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.store.interface import Compare, Delete, Put, Store
from daemon.store.open import open_store
from daemon.zone.election import lead, stay_alive
from daemon.zone.keys import leader_key
from tests.store.conftest import BACKENDS, Backend

pytestmark = pytest.mark.asyncio
JOB = "test"


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    made: Backend = BACKENDS[request.param]()
    yield made
    made.dispose()


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with await open_store(backend.url) as opened:
        yield opened


async def until(ready: object, seconds: float = 15.0) -> None:
    assert callable(ready)
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)


async def test_one_leads_and_another_takes_over(backend: Backend, store: Store) -> None:
    at_work: list[str] = []

    def work(node: str) -> object:
        async def run(fence: Compare) -> None:
            at_work.append(node)
            try:
                await asyncio.Event().wait()
            finally:
                at_work.remove(node)

        return run

    async with await open_store(backend.url) as other:
        one = asyncio.create_task(lead(store, JOB, "n1", work("n1"), 2))  # type: ignore[arg-type]
        await until(lambda: at_work == ["n1"])
        two = asyncio.create_task(lead(other, JOB, "n2", work("n2"), 2))  # type: ignore[arg-type]
        await asyncio.sleep(0.5)
        assert at_work == ["n1"]
        one.cancel()
        await until(lambda: at_work == ["n2"])
        two.cancel()
        await asyncio.wait([one, two])
    assert at_work == []


async def test_a_leader_that_slept_past_its_lease_writes_nothing(store: Store) -> None:
    fences: list[Compare] = []

    async def work(fence: Compare) -> None:
        fences.append(fence)
        await asyncio.Event().wait()

    first = asyncio.create_task(lead(store, JOB, "n1", work, 2))
    await until(lambda: len(fences) == 1)
    assert (await store.commit([fences[0]], [Put("/plum/x", b"1")])).succeeded
    item = await store.get(leader_key(JOB))
    assert item is not None
    await store.revoke(item.lease)  # as if it had slept
    assert not (await store.commit([fences[0]], [Put("/plum/x", b"2")])).succeeded
    await until(lambda: len(fences) == 2)  # elected anew, with another fence
    assert fences[0] != fences[1]
    assert not (await store.commit([fences[0]], [Put("/plum/x", b"3")])).succeeded
    assert (await store.commit([fences[1]], [Put("/plum/x", b"4")])).succeeded
    first.cancel()
    await asyncio.wait([first])


async def test_a_job_that_fails_is_stood_for_again(store: Store) -> None:
    terms: list[Compare] = []

    async def work(fence: Compare) -> None:
        terms.append(fence)
        raise KeyError("not foreseen")

    standing = asyncio.create_task(lead(store, JOB, "n1", work, 2))
    await until(lambda: len(terms) >= 2)
    standing.cancel()
    await asyncio.wait([standing])


async def test_a_sign_of_life_that_somebody_removed_is_given_again(store: Store) -> None:
    living = asyncio.create_task(stay_alive(store, "/plum/alive/n1", b"{}", 2))
    async with asyncio.timeout(10):
        for _ in range(2):
            while await store.get("/plum/alive/n1") is None:
                await asyncio.sleep(0.01)
            await store.commit([], [Delete("/plum/alive/n1")])
    living.cancel()
    await asyncio.wait([living])


async def test_a_sign_of_life_comes_back_after_its_lease_was_lost(store: Store) -> None:
    living = asyncio.create_task(stay_alive(store, "/plum/alive/n1", b"{}", 2))
    lost = None
    for _ in range(2):
        async with asyncio.timeout(10):
            while (item := await store.get("/plum/alive/n1")) is None or item.lease == lost:
                await asyncio.sleep(0.01)
        lost = item.lease
        await store.revoke(lost)
    living.cancel()
    await asyncio.wait([living])
