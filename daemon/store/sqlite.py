"""The store in one SQLite file, shared by the processes of one machine.

The asyncio front: each call runs on one of two named threads (`store-read`,
`store-write`), each with its own connection, so a writer that waits for another
process keeps no reader waiting. A third (`store-watch`) exists while somebody watches.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from daemon.store.commit_bell import CommitBell
from daemon.store.interface import (
    Batch,
    Committed,
    Compare,
    Delete,
    Item,
    Listing,
    Put,
    StoreError,
)
from daemon.store.sqlite_database import KEEP_REVISIONS, Clock, Database, Page
from daemon.store.sqlite_file import create_or_check, explain

T = TypeVar("T")


class SqliteStore:
    """The `Store` contract on the file at `path`. Made by `open`, inside a running loop."""

    def __init__(self, path: Path, clock: Clock, keep_revisions: int) -> None:
        self._path = path
        self._clock = clock
        self._keep = keep_revisions
        self._loop = asyncio.get_running_loop()
        self._reader = _Worker(path, "store-read", self._open_database)
        self._writer = _Worker(path, "store-write", self._open_database)
        self._watches: set[asyncio.Event] = set()
        self._bell: CommitBell | None = None
        self._ending: list[CommitBell] = []  # asked to stop, not yet joined
        self._announced = -1
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, clock: Clock = time.time, keep_revisions: int = KEEP_REVISIONS
    ) -> Self:
        """Open the file, or create it.

        Watches can go back `keep_revisions`. `clock` is the wall clock in seconds: all
        processes must agree on it, since lease deadlines are kept in the file.
        Raises StoreError if the file is read-only, damaged, newer or another program's.
        """
        store = cls(path, clock, keep_revisions)
        try:
            await store._writer.prepare()
            await store._writer.call(Database.revision)
            await store._reader.call(Database.revision)
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, key: str) -> Item | None:
        return await self._reader.call(lambda database: database.get(key))

    async def list(self, prefix: str) -> Listing:
        return await self._reader.call(lambda database: database.list(prefix))

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        committed = await self._writer.call(lambda database: database.commit(compares, writes))
        self._announce(committed.revision)
        return committed

    async def watch(
        self, prefixes: Sequence[str], from_revision: int, keys: Collection[str] = ()
    ) -> AsyncIterator[Batch]:
        # History stays in the file: a watch holds a position, so a slow one costs no memory.
        position = from_revision
        woken = asyncio.Event()
        self._add_watch(woken)
        try:
            while True:
                woken.clear()  # before reading: what comes after it sets it again
                page = await self._history(prefixes, position, keys)
                for batch in page.batches:
                    yield batch
                position = page.through
                if not page.more:
                    await woken.wait()
        finally:
            self._remove_watch(woken)

    async def grant(self, ttl_s: float) -> int:
        return await self._writer.call(lambda database: database.grant(ttl_s))

    async def keep_alive(self, lease: int) -> None:
        await self._writer.call(lambda database: database.keep_alive(lease))

    async def revoke(self, lease: int) -> None:
        await self._writer.call(lambda database: database.revoke(lease))

    async def follow_members(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        """End the threads. Watches end with StoreError. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._stop_bell()
        for bell in self._ending:
            await asyncio.to_thread(bell.join)
        await self._writer.close()
        await self._reader.close()
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _history(self, prefixes: Sequence[str], after: int, keys: Collection[str]) -> Page:
        return await self._reader.call(lambda database: database.history(prefixes, after, keys))

    def _open_database(self) -> Database:
        return Database(self._path, self._clock, self._keep)

    def _add_watch(self, woken: asyncio.Event) -> None:
        if self._closed:
            raise StoreError(f"store {self._path}: it is closed")
        if self._bell is None:
            self._bell = CommitBell(
                self._path, self._open_database, self._clock, self._announce_from_thread
            )
        self._watches.add(woken)

    def _remove_watch(self, woken: asyncio.Event) -> None:
        self._watches.discard(woken)
        if not self._watches:
            self._stop_bell()

    def _stop_bell(self) -> None:
        self._ending = [bell for bell in self._ending if bell.alive]
        if self._bell is not None:
            self._bell.stop()
            self._ending.append(self._bell)
            self._bell = None

    def _announce_from_thread(self, revision: int | None) -> None:
        if not self._loop.is_closed():  # a loop that ended without close() has no watches
            self._loop.call_soon_threadsafe(self._announce, revision)

    def _announce(self, revision: int | None) -> None:
        """Wake the watches, once per revision however many ways it was noticed."""
        if revision is None:
            self._wake()
        elif revision > self._announced:
            self._announced = revision
            self._wake()

    def _wake(self) -> None:
        for woken in self._watches:
            woken.set()


class _Worker:
    """One named thread that owns one connection, opened at its first call."""

    def __init__(self, path: Path, name: str, open_database: Callable[[], Database]) -> None:
        self._path = path
        self._open_database = open_database
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._database: Database | None = None
        self._closed = False

    async def prepare(self) -> None:
        await self._submit(lambda: create_or_check(self._path))

    async def call(self, action: Callable[[Database], T]) -> T:
        return await self._submit(lambda: action(self._connected()))

    async def close(self) -> None:
        """After what is under way. Later calls raise StoreError."""
        self._closed = True
        self._executor.submit(self._disconnect)
        await asyncio.to_thread(self._executor.shutdown)

    async def _submit(self, action: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(f"store {self._path}: it is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, action)
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def _connected(self) -> Database:
        if self._database is None:
            self._database = self._open_database()
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
