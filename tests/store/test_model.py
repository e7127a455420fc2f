"""Random histories against a plain model: state, revisions, watches, leases, compaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daemon.store.interface import (
    Batch,
    Change,
    CompactedError,
    Compare,
    Delete,
    Item,
    LeaseExpiredError,
    Put,
    Store,
)

if TYPE_CHECKING:
    from tests.store.conftest import Backend

T = TypeVar("T")

# Neighbours in the order of keys: where prefix ranges go wrong.
KEYS = ["/a", "/a/", "/a/1", "/a/\x00", "/a/\uffff", "/a/\U0010ffff", "/a0", "/b", "/b/2", "é"]
PREFIXES = ["", "/", "/a", "/a/", "/a/\U0010ffff", "/b", "/none", "é"]
PROBE = "~probe"  # sorts last and is under every watch of this test

keys = st.sampled_from(KEYS)
values = st.binary(max_size=20)
prefix_sets = st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3)


@dataclass
class Watch:
    prefixes: tuple[str, ...]
    from_revision: int
    seen: list[Batch] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def collect(self, source: AsyncIterator[Batch]) -> None:
        async for batch in source:
            self.seen.append(batch)


class StoreMachine(RuleBasedStateMachine):
    """Two stores on one backend take turns, so what one writes the other must show."""

    def __init__(self, new_backend: Callable[[], Backend]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.backend = new_backend()
        self.stores = [self.run(self.backend.open()) for _ in range(2)]
        self.turn = 0
        self.items: dict[str, Item] = {}
        self.batches: list[Batch] = []
        self.start = self.revision = self.run(self.store.list("")).revision
        self.now = 0.0
        self.leases: dict[int, tuple[int, float]] = {}  # id: (ttl, deadline)
        self.dead: list[int] = []
        self.watches: list[Watch] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(bounded())

    @property
    def store(self) -> Store:
        self.turn += 1
        return self.stores[self.turn % 2]

    def record(self, revision: int, writes: list[Put | Delete]) -> None:
        """What the model makes of a transaction that went through at `revision`."""
        changes = []
        for write in writes:
            old = self.items.get(write.key)
            if isinstance(write, Put):
                created = old.create_revision if old else revision
                item = Item(write.key, write.value, created, revision, write.lease)
                self.items[write.key] = item
                changes.append(Change(write.key, item, revision))
            elif old:
                del self.items[write.key]
                changes.append(Change(write.key, None, revision))
        if changes:
            assert revision > self.revision
            self.revision = revision
            by_key = sorted(changes, key=lambda change: change.key)
            self.batches.append(Batch(tuple(by_key), revision))
        else:
            assert revision == self.revision

    def expected(self, prefixes: tuple[str, ...], after: int) -> list[Batch]:
        found = []
        for batch in self.batches:
            mine = tuple(c for c in batch.changes if c.key.startswith(prefixes))
            if mine and batch.revision > after:
                found.append(Batch(mine, batch.revision))
        return found

    def lease_of(self, choice: int) -> int:
        known = [0, 0, *self.leases, *self.dead[-2:]]
        return known[choice % len(known)]

    @rule(
        compares=st.lists(st.tuples(keys, st.sampled_from(["now", "now", "now", "absent", "old"]))),
        writes=st.lists(
            st.tuples(keys, st.none() | values, st.integers(0, 20)),
            max_size=5,
            unique_by=lambda write: write[0],
        ),
    )
    def commit(
        self, compares: list[tuple[str, str]], writes: list[tuple[str, bytes | None, int]]
    ) -> None:
        asked = []
        for key, kind in compares:
            current = self.items[key].mod_revision if key in self.items else 0
            asked.append(Compare(key, {"now": current, "absent": 0, "old": current - 1}[kind]))
        holds = all(
            c.mod_revision == (self.items[c.key].mod_revision if c.key in self.items else 0)
            for c in asked
        )
        wanted: list[Put | Delete] = [
            Delete(key) if value is None else Put(key, value, self.lease_of(lease))
            for key, value, lease in writes
        ]
        dead = any(isinstance(w, Put) and w.lease and w.lease in self.dead for w in wanted)
        if holds and dead:
            with pytest.raises(LeaseExpiredError):
                self.run(self.store.commit(asked, wanted))
            return
        answer = self.run(self.store.commit(asked, wanted))
        assert answer.succeeded == holds
        self.record(answer.revision, wanted if holds else [])

    @rule(ttl_s=st.integers(1, 20))
    def grant(self, ttl_s: int) -> None:
        lease = self.run(self.store.grant(ttl_s))
        assert lease not in self.leases and lease not in self.dead and lease != 0
        self.leases[lease] = (ttl_s, self.now + ttl_s)

    @rule(choice=st.integers(0, 20))
    def keep_alive(self, choice: int) -> None:
        lease = self.lease_of(choice)
        if lease in self.leases:
            self.run(self.store.keep_alive(lease))
            ttl_s, _ = self.leases[lease]
            self.leases[lease] = (ttl_s, self.now + ttl_s)
        else:
            with pytest.raises(LeaseExpiredError):
                self.run(self.store.keep_alive(lease))

    @rule(choice=st.integers(0, 20))
    def revoke(self, choice: int) -> None:
        lease = self.lease_of(choice)
        if lease in self.leases:
            self.run(self.store.revoke(lease))
            self.end_leases([lease])
        else:
            with pytest.raises(LeaseExpiredError):
                self.run(self.store.revoke(lease))

    @rule(seconds=st.integers(1, 8))
    def advance(self, seconds: int) -> None:
        self.run(self.backend.advance(seconds))
        self.now += seconds
        self.end_leases([i for i, (_, deadline) in self.leases.items() if deadline <= self.now])

    def end_leases(self, ended: list[int]) -> None:
        """Which of several ends first is the store's affair: take the order it tells."""
        orphans = {
            lease: sorted(k for k, item in self.items.items() if item.lease == lease)
            for lease in ended
        }
        for lease in ended:
            del self.leases[lease]
            self.dead.append(lease)
        before = self.revision
        self.run(self.store.list(""))  # somebody looks
        told = self.run(self.first(sum(map(bool, orphans.values())), before))
        for batch in told:
            gone = [change.key for change in batch.changes]
            lease = next(lease for lease, owned in orphans.items() if owned == gone)
            del orphans[lease]
            self.record(batch.revision, [Delete(key) for key in gone])
        assert not any(orphans.values())

    async def first(self, count: int, after: int) -> list[Batch]:
        found: list[Batch] = []
        if count:
            async for batch in self.store.watch([""], after):
                found.append(batch)
                if len(found) == count:
                    break
        return found

    @precondition(lambda self: len(self.watches) < 4)
    @rule(prefixes=prefix_sets, back=st.integers(0, 40))
    def watch(self, prefixes: list[str], back: int) -> None:
        after = max(self.revision - back, self.start)
        age = self.revision - after
        watch = Watch((*prefixes, PROBE), after)
        watch.task = self.run(self.launch(watch))
        if age > self.backend.kept and self.run(self.refused(watch, age)):
            return
        self.watches.append(watch)

    async def launch(self, watch: Watch) -> asyncio.Task[None]:
        source = self.store.watch(watch.prefixes, watch.from_revision)
        return asyncio.create_task(watch.collect(source))

    async def refused(self, watch: Watch, age: int) -> bool:
        """Past what is surely kept: refused, or (up to what is surely gone) served whole."""
        assert watch.task is not None
        await asyncio.wait([watch.task], timeout=None if age > self.backend.gone else 0.1)
        if watch.task.done():
            with pytest.raises(CompactedError):
                watch.task.result()
            return True
        return False

    @rule()
    def reopen(self) -> None:
        """A process ends and another begins: nothing is lost."""
        for watch in self.watches:
            self.run(self.cancel(watch))
        self.watches.clear()
        self.run(self.stores[0].close())
        self.stores[0] = self.run(self.backend.open())

    @invariant()
    def state_is_the_models(self) -> None:
        for store in self.stores:
            listing = self.run(store.list(""))
            assert listing.revision == self.revision
            assert listing.items == tuple(self.items[key] for key in sorted(self.items))

    @rule(prefix=st.sampled_from(PREFIXES), key=keys)
    def look(self, prefix: str, key: str) -> None:
        listing = self.run(self.store.list(prefix))
        assert [item.key for item in listing.items] == [
            key for key in sorted(self.items) if key.startswith(prefix)
        ]
        assert self.run(self.store.get(key)) == self.items.get(key)

    @invariant()
    def watches_saw_exactly_what_happened(self) -> None:
        for watch in self.watches:
            expected = self.expected(watch.prefixes, watch.from_revision)
            self.run(self.catch_up(watch, len(expected)))
            assert watch.seen == expected

    async def catch_up(self, watch: Watch, count: int) -> None:
        assert watch.task is not None
        while len(watch.seen) < count and not watch.task.done():
            await asyncio.sleep(0.0005)
        if watch.task.done():
            watch.task.result()

    async def cancel(self, watch: Watch) -> None:
        assert watch.task is not None
        watch.task.cancel()
        await asyncio.wait([watch.task])

    def teardown(self) -> None:
        try:
            # A batch that should not be would come before this one.
            answer = self.run(self.store.commit([], [Put(PROBE, b"")]))
            self.record(answer.revision, [Put(PROBE, b"")])
            self.watches_saw_exactly_what_happened()
        finally:
            for watch in self.watches:
                self.run(self.cancel(watch))
            for store in self.stores:
                self.run(store.close())
            self.runner.close()
            self.backend.dispose()


def test_store_behaves_like_the_model(new_backend: Callable[[], Backend]) -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(new_backend)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
