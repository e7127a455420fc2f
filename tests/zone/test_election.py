"""One leader at a time, and nothing written by one that only thinks it leads."""

from __future__ import annotations

import asyncio
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from daemon.store.interface import Compare, Delete, Put, Store
from daemon.store.open import open_store
from daemon.zone.election import lead, stay_alive
from daemon.zone.keys import leader_key
from tests.store.conftest import BACKENDS, ROOT, Backend
from tests.store.pause import pause_between_writes

pytestmark = pytest.mark.asyncio
JOB = "test"
KEY = "/plum/test-election"


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


async def test_a_job_that_fails_as_its_leader_is_told_to_stop_does_not_keep_it(
    store: Store,
) -> None:
    at_work = asyncio.Event()

    async def work(fence: Compare) -> None:
        at_work.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("not foreseen")

    standing = asyncio.create_task(lead(store, JOB, "n1", work, 2))
    async with asyncio.timeout(15):
        await at_work.wait()
        standing.cancel()
        await asyncio.wait([standing])
    assert standing.cancelled()


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


class Standing:
    """A process that stands for the job and writes while it leads."""

    def __init__(self, url: str, node: str) -> None:
        command = [sys.executable, "-m", "tests.zone.leader", url, JOB, node, KEY]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT)

    def says(self, word: str, timeout_s: float = 20) -> None:
        """Until it says this, whatever it says before."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]:
            line = self.process.stdout.readline()
            assert line, "it ended"
            if line.startswith(word.encode()):
                return
        raise AssertionError(f"it does not say {word!r} in {timeout_s:g} s")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


async def test_a_process_paused_past_its_lease_wakes_and_its_write_is_refused(
    backend: Backend, store: Store
) -> None:
    names: list[str] = []

    async def follow(revision: int) -> None:
        async for batch in store.watch([KEY], revision):
            names.extend(c.item.value.decode().split()[0] for c in batch.changes if c.item)

    watching = asyncio.create_task(follow((await store.list(KEY)).revision))
    first = Standing(backend.url, "n1")
    second: Standing | None = None
    try:
        await asyncio.to_thread(first.says, "leads")
        await until(lambda: len(names) > 5)
        second = Standing(backend.url, "n2")
        pause_between_writes(first.process, backend.url)
        await asyncio.to_thread(second.says, "leads")
        await until(lambda: names[-1] == "n2")
        first.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(first.says, "refused")
        seen = len(names)
        await until(lambda: len(names) > seen + 20)
    finally:
        first.end()
        if second is not None:
            second.end()
        watching.cancel()
        await asyncio.wait([watching])
    assert "n1" not in names[names.index("n2") :]
