"""A store that counts what goes through it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from daemon.store.interface import (
    Batch,
    Committed,
    Compare,
    Delete,
    Item,
    Listing,
    Put,
    Store,
)


@dataclass(slots=True)
class Meter:
    """Bytes are those of keys and values: what the store must carry, however it packs it."""

    sent: int = 0
    received: int = 0
    watched: int = 0  # of `received`: by watches
    batches: int = 0
    #: Of reads: start and end by the monotonic clock, and bytes.
    reads: list[tuple[float, float, int]] = field(default_factory=list)

    def read(self, since: float, count: int) -> None:
        self.received += count
        self.reads.append((since, time.monotonic(), count))

    @property
    def total(self) -> int:
        return self.sent + self.received


def _bytes(item: Item | None) -> int:
    return len(item.key) + len(item.value) if item else 0


class MeteredStore:
    def __init__(self, store: Store, meter: Meter) -> None:
        self._store = store
        self._meter = meter

    async def get(self, key: str) -> Item | None:
        since = time.monotonic()
        item = await self._store.get(key)
        self._meter.read(since, len(key) + _bytes(item))
        return item

    async def list(self, prefix: str) -> Listing:
        since = time.monotonic()
        listing = await self._store.list(prefix)
        self._meter.read(since, len(prefix) + sum(map(_bytes, listing.items)))
        return listing

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        self._meter.sent += sum(len(compare.key) + 8 for compare in compares)
        for write in writes:
            self._meter.sent += len(write.key) + (len(write.value) if isinstance(write, Put) else 0)
        return await self._store.commit(compares, writes)

    async def watch(
        self, prefixes: Sequence[str], from_revision: int, keys: Collection[str] = ()
    ) -> AsyncIterator[Batch]:
        watch = self._store.watch(prefixes, from_revision, keys)
        async with aclosing(cast(AsyncGenerator[Batch, None], watch)) as batches:
            async for batch in batches:
                count = sum(len(one.key) + _bytes(one.item) for one in batch.changes)
                self._meter.received += count
                self._meter.watched += count
                self._meter.batches += 1
                yield batch

    async def grant(self, ttl_s: float) -> int:
        return await self._store.grant(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        await self._store.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._store.revoke(lease)

    async def follow_members(self) -> tuple[str, ...]:
        return await self._store.follow_members()

    async def close(self) -> None:
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
