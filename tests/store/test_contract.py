"""The `Store` contract, case by case. test_model.py looks for the cases nobody thought of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from daemon.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    LeaseExpiredError,
    Put,
    Store,
    StoreError,
)
from daemon.store.open import open_store

if TYPE_CHECKING:
    from tests.store.conftest import Backend

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with await backend.open() as store:
        yield store


async def take(watch: AsyncIterator[Batch], count: int) -> list[Batch]:
    async with asyncio.timeout(5):
        return [await anext(watch) for _ in range(count)]


async def test_item_tells_when_it_was_created_and_last_written(store: Store) -> None:
    first = await store.commit([], [Put("/a", b"1")])
    second = await store.commit([], [Put("/a", b"2")])
    item = await store.get("/a")
    assert item is not None
    assert (item.value, item.lease) == (b"2", 0)
    assert (item.create_revision, item.mod_revision) == (first.revision, second.revision)


async def test_deleted_key_is_created_anew(store: Store) -> None:
    await store.commit([], [Put("/a", b"1")])
    await store.commit([], [Delete("/a")])
    assert await store.get("/a") is None
    again = await store.commit([Compare("/a", 0)], [Put("/a", b"2")])
    item = await store.get("/a")
    assert item is not None and item.create_revision == again.revision


async def test_one_failed_compare_stops_every_write(store: Store) -> None:
    before = await store.commit([], [Put("/a", b"1")])
    answer = await store.commit(
        [Compare("/a", before.revision), Compare("/b", before.revision)],
        [Put("/a", b"2"), Put("/c", b"2")],
    )
    assert not answer.succeeded and answer.revision == before.revision
    assert [item.value for item in (await store.list("")).items] == [b"1"]


async def test_deleting_what_is_absent_succeeds_and_takes_no_revision(store: Store) -> None:
    before = (await store.list("")).revision
    answer = await store.commit([], [Delete("/a")])
    assert answer.succeeded and answer.revision == before


@pytest.mark.parametrize(
    "writes", [[Put("", b"")], [Put("/a", b"1"), Delete("/a")], [Put("/a", b"1"), Put("/a", b"2")]]
)
async def test_ambiguous_writes_are_refused(store: Store, writes: list[Put | Delete]) -> None:
    before = await store.list("")
    with pytest.raises(StoreError):
        await store.commit([], writes)
    assert await store.list("") == before


async def test_prefix_is_text_and_not_a_path(store: Store) -> None:
    keys = ["/a", "/a/1", "/a/\uffff", "/a/\U0010ffff", "/a\U0010ffff", "/b"]
    await store.commit([], [Put(key, b"") for key in keys])
    listed = [item.key for item in (await store.list("/a")).items]
    assert listed == ["/a", "/a/1", "/a/\uffff", "/a/\U0010ffff", "/a\U0010ffff"]
    listed = [item.key for item in (await store.list("/a/\U0010ffff")).items]
    assert listed == ["/a/\U0010ffff"]


async def test_watch_gives_history_then_what_comes(store: Store) -> None:
    start = (await store.list("")).revision
    one = await store.commit([], [Put("/a/1", b"1"), Put("/b/1", b"1")])
    await store.commit([], [Put("/c/1", b"1")])
    watch = store.watch(["/a/", "/b/"], start)
    (batch,) = await take(watch, 1)
    assert batch.revision == one.revision
    assert [change.key for change in batch.changes] == ["/a/1", "/b/1"]
    waiting = asyncio.ensure_future(take(watch, 1))
    two = await store.commit([], [Put("/c/2", b""), Delete("/a/1")])
    (batch,) = await waiting
    assert batch.revision == two.revision
    assert [(change.key, change.item) for change in batch.changes] == [("/a/1", None)]


async def test_watch_of_a_key_sends_nothing_of_its_neighbours(store: Store) -> None:
    start = (await store.list("")).revision
    watch = store.watch(["/d/"], start, ["/a", "/b"])
    await store.commit([], [Put("/a1", b""), Put("/a/", b""), Put("/c", b"")])
    put = await store.commit([], [Put("/a", b"1"), Put("/ab", b""), Put("/d/1", b"")])
    gone = await store.commit([], [Delete("/a")])
    one, other = await take(watch, 2)
    assert (one.revision, other.revision) == (put.revision, gone.revision)
    assert sorted(change.key for change in one.changes) == ["/a", "/d/1"]
    assert [(change.key, change.item) for change in other.changes] == [("/a", None)]


async def test_large_transaction_is_one_batch(store: Store) -> None:
    start = (await store.list("")).revision
    watch = store.watch([""], start)
    writes = [Put(f"/{number:05}", b"") for number in range(3000)]
    await store.commit([], [Put("/first", b"")])
    await store.commit([], writes)
    await store.commit([], [Put("/last", b"")])
    sizes = [len(batch.changes) for batch in await take(watch, 3)]
    assert sizes == [1, 3000, 1]


async def test_watch_of_several_prefixes_keeps_up_with_a_busy_store(backend: Backend) -> None:
    """What was committed comes while others go on writing, and each revision whole."""
    async with await open_store(backend.url) as store:  # that keeps more than a few revisions
        await _keep_up(store)


async def _keep_up(store: Store) -> None:
    start = (await store.list("")).revision
    watch = store.watch(["/a/", "/b/"], start)
    taking = asyncio.ensure_future(take(watch, 50))
    written = 0
    async with asyncio.timeout(10):  # it does not wait for the writers to rest: they never do
        while not taking.done():
            await store.commit([], [Put("/a/1", b"%d" % written), Put("/b/1", b"")])
            written += 1
    batches = taking.result()
    assert [[change.key for change in batch.changes] for batch in batches] == [
        ["/a/1", "/b/1"]
    ] * 50
    values = [batch.changes[0].item.value for batch in batches if batch.changes[0].item]
    assert values == [b"%d" % number for number in range(50)]


async def test_two_watches_see_the_same_order(store: Store) -> None:
    start = (await store.list("")).revision
    watches = [store.watch(["/"], start) for _ in range(2)]
    seen = [asyncio.ensure_future(take(watch, 15)) for watch in watches]
    await asyncio.gather(*(store.commit([], [Put(f"/{n}", b"")]) for n in range(15)))
    first, second = await asyncio.gather(*seen)
    assert first == second
    revisions = [batch.revision for batch in first]
    assert revisions == sorted(set(revisions))


async def test_watch_of_forgotten_history_says_so(backend: Backend, store: Store) -> None:
    start = (await store.list("")).revision
    late = store.watch(["/"], start)
    first = await store.commit([], [Put("/a", b"")])
    await take(late, 1)
    for number in range(backend.gone + 1):
        await store.commit([], [Put("/a", b"%d" % number)])
    with pytest.raises(CompactedError):
        await take(store.watch(["/"], start), 1)
    with suppress(CompactedError):  # what a watch has fetched ahead it may still give
        assert (await take(late, 1))[0].revision == first.revision + 1
    revision = (await store.list("")).revision
    kept = await take(store.watch(["/"], revision - backend.kept), backend.kept)
    assert kept[-1].revision == revision


async def test_keys_vanish_with_their_lease_in_one_batch(backend: Backend, store: Store) -> None:
    lease = await store.grant(10)
    put = await store.commit([], [Put("/b", b"", lease), Put("/a", b"", lease), Put("/c", b"")])
    await backend.advance(9)
    await store.keep_alive(lease)
    await backend.advance(9)
    assert len((await store.list("")).items) == 3
    await backend.advance(2)
    listing = await store.list("")
    assert [item.key for item in listing.items] == ["/c"]
    (batch,) = await take(store.watch([""], put.revision), 1)
    assert [(change.key, change.item) for change in batch.changes] == [("/a", None), ("/b", None)]
    assert batch.revision == listing.revision
    for gone in (store.keep_alive(lease), store.revoke(lease)):
        with pytest.raises(LeaseExpiredError):
            await gone


async def test_waiting_watch_sees_a_lease_run_out(backend: Backend) -> None:
    # The real clock: nobody looks at the store meanwhile but the watch.
    async with await open_store(backend.url) as store:
        lease = await store.grant(1)
        put = await store.commit([], [Put("/a", b"", lease)])
        (batch,) = await take(store.watch([""], put.revision), 1)
        assert batch.changes[0].item is None


async def test_put_without_the_lease_outlives_it(backend: Backend, store: Store) -> None:
    lease = await store.grant(10)
    await store.commit([], [Put("/a", b"1", lease)])
    await store.commit([], [Put("/a", b"2")])
    await store.revoke(lease)
    item = await store.get("/a")
    assert item is not None and item.value == b"2"


async def test_nothing_is_written_under_a_dead_lease(backend: Backend, store: Store) -> None:
    lease = await store.grant(10)
    await backend.advance(11)
    with pytest.raises(LeaseExpiredError):
        await store.commit([], [Put("/b", b""), Put("/a", b"", lease)])
    assert (await store.list("")).items == ()
    assert await store.grant(10) != lease


@pytest.mark.parametrize("ttl_s", [0, -1, float("inf"), float("nan")])
async def test_lease_needs_a_life_time(store: Store, ttl_s: float) -> None:
    with pytest.raises(StoreError):
        await store.grant(ttl_s)


async def test_closing_ends_watches_and_calls(backend: Backend) -> None:
    store = await backend.open()
    revision = (await store.list("")).revision
    waiting = asyncio.ensure_future(take(store.watch([""], revision), 1))
    await asyncio.sleep(0.05)  # so that it waits; either way it must end
    await store.close()
    await store.close()
    with pytest.raises(StoreError):
        await waiting
    with pytest.raises(StoreError):
        await store.get("/a")
    with pytest.raises(StoreError):
        await take(store.watch([""], revision), 1)
