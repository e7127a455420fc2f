"""Bugs on purpose, each a small lie on top of the real thing: the suite must find them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any

from daemon.store.interface import (
    Batch,
    Committed,
    CompactedError,
    Compare,
    Delete,
    Put,
    Store,
)


class Bug(StrEnum):
    NONE = "none"
    UNFENCED = "unfenced"  # a lease is used as a lock: writes do not compare its revision
    EARLY = "early"  # a write is acknowledged before it is committed
    DEAF = "deaf"  # a watch goes on after a compaction as if nothing had been in between
    CACHED = "cached"  # reads are answered from what was read before
    STALE = "stale"  # a plumd never renews its certificate
    SWEEPING = "sweeping"  # a reconciler deletes everything when the store lists nothing


class _Wrapped:
    """Everything as the store does it but for what a subclass defines."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class EarlyStore(_Wrapped):
    """Says yes at once and commits a little later, if it lives that long."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._late: set[asyncio.Task[Committed]] = set()

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        now = (await self._store.list("~")).revision
        task = asyncio.create_task(self._later(compares, writes))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return Committed(True, now + 1)

    async def _later(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        await asyncio.sleep(0.05)
        return await self._store.commit(compares, writes)


class DeafStore(_Wrapped):
    """Takes a compacted history for an empty one."""

    async def watch(self, prefixes: Sequence[str], from_revision: int) -> AsyncIterator[Batch]:
        while True:
            try:
                async for batch in self._store.watch(prefixes, from_revision):
                    from_revision = batch.revision
                    yield batch
            except CompactedError:
                from_revision = (await self._store.list("~")).revision


class CachedStore(_Wrapped):
    """Remembers each key for half a second."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._known: dict[str, tuple[float, Any]] = {}

    async def get(self, key: str) -> Any:
        now = asyncio.get_running_loop().time()
        if key not in self._known or now - self._known[key][0] > 0.5:
            self._known[key] = now, await self._store.get(key)
        return self._known[key][1]


_WRAPPERS: dict[Bug, type[_Wrapped]] = {
    Bug.EARLY: EarlyStore,
    Bug.DEAF: DeafStore,
    Bug.CACHED: CachedStore,
}


def planted(store: Store, bug: Bug) -> Store:
    wrapper = _WRAPPERS.get(bug)
    return wrapper(store) if wrapper else store  # type: ignore[return-value]
