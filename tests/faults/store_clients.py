"""Clients of the raw store: registers, a lock by lease, a watch. Each records all it is told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from daemon.store.interface import (
    CompactedError,
    Compare,
    Delete,
    Item,
    LeaseExpiredError,
    Put,
    Store,
    StoreError,
)
from tests.faults.history import Action, Cell, Outcome, Recorder, plain

T = TypeVar("T")

ROOT = "/faults/"
REGISTERS = f"{ROOT}register/"
LOCK, GUARDED = f"{ROOT}lock", f"{ROOT}guarded"
MARKER = f"{ROOT}marker"
API = "/plum/"

PATIENCE_S = 4.0  # then the outcome counts as unknown
TTL_S = 2.0
PACE_S = 0.04


def token_of(key: str, value: bytes) -> str:
    """The mark of the write a value came from; objects of the API carry it in their spec."""
    if not key.startswith(API):
        return value.decode()
    spec = json.loads(value)["spec"]
    return str(spec.get("labels", {}).get("token") or spec.get("description") or "none")


def cell_of(item: Item) -> Cell:
    return Cell(item.key, token_of(item.key, item.value), item.mod_revision)


class StoreClient:
    """Operations on a store, each recorded before it begins and after it ended."""

    def __init__(self, store: Store, record: Recorder, choose: random.Random) -> None:
        self.store = store
        self.record = record
        self.choose = choose
        self._tokens = 0

    def token(self) -> str:
        self._tokens += 1
        return f"{self.record.process}-{self._tokens}"

    async def get(self, key: str) -> int | None:
        """The key's revision, 0 if it is absent; None: no answer."""
        number = self.record.begin(Action.GET, scope=key)
        item, ok = await self._answered(number, self.store.get(key))
        if not ok:
            return None
        cells = [cell_of(item)] if item else []
        self.record.end(number, Outcome.OK, found=plain(cells))
        return item.mod_revision if item else 0

    async def list(self, prefix: str) -> None:
        number = self.record.begin(Action.LIST, scope=prefix)
        listing, ok = await self._answered(number, self.store.list(prefix))
        if ok and listing is not None:
            cells = plain(cell_of(item) for item in listing.items)
            self.record.end(number, Outcome.OK, revision=listing.revision, found=cells)

    async def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Put | Delete],
        tenure: tuple[str, int] | None = None,
    ) -> int | None:
        """The new revision, 0 if a compare failed; None: nobody knows."""
        number = self.record.begin(
            Action.COMMIT,
            compares=[[compare.key, compare.mod_revision] for compare in compares],
            writes=plain(
                Cell(write.key, write.value.decode() if isinstance(write, Put) else None)
                for write in writes
            ),
            leased=any(isinstance(write, Put) and write.lease for write in writes),
            tenure=tenure,
        )
        try:
            committed, ok = await self._answered(number, self.store.commit(compares, writes))
        except LeaseExpiredError:
            self.record.end(number, Outcome.REFUSED)
            raise
        if not ok or committed is None:
            return None
        outcome = Outcome.OK if committed.succeeded else Outcome.REFUSED
        self.record.end(number, outcome, revision=committed.revision)
        return committed.revision if committed.succeeded else 0

    async def _answered(self, number: int, work: Awaitable[T]) -> tuple[T | None, bool]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await work, True
        except LeaseExpiredError:
            raise
        except (StoreError, TimeoutError) as error:
            self.record.end(number, Outcome.UNKNOWN, why=str(error) or "timeout")
            return None, False


async def registers(client: StoreClient) -> None:
    """Reads, writes, compare-and-sets and deletions of a few keys, one after the other."""
    known: dict[str, int] = {}
    while True:
        await asyncio.sleep(client.choose.uniform(0, 2 * PACE_S))
        key = f"{REGISTERS}{client.choose.choice('abcdef')}"
        kind = client.choose.choice(["get", "get", "list", "put", "cas", "cas", "delete", "both"])
        if kind == "get" or key not in known:
            revision = await client.get(key)
            if revision is not None:
                known[key] = revision
            continue
        if kind == "list":
            await client.list(REGISTERS)
            continue
        other = f"{REGISTERS}{client.choose.choice('ghi')}"
        compares = [] if kind == "put" else [Compare(key, known[key])]
        put = Put(key, client.token().encode())
        writes: dict[str, list[Put | Delete]] = {
            "delete": [Delete(key)] if known[key] else [put],
            "both": [put, Put(other, client.token().encode())],
        }
        revision = await client.commit(compares, writes.get(kind, [put]))
        if not revision or kind == "delete":
            known.pop(key)  # look again
        else:
            known[key] = revision


class Holder:
    """Holds a lock by lease and writes in its name. Fenced: each write compares the lock's
    revision, since a lease alone cannot stop a holder that was paused while it ran out."""

    def __init__(self, client: StoreClient, *, fenced: bool = True) -> None:
        self._client = client
        self._fenced = fenced

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._client.choose.uniform(0, 0.3))
            try:
                await self._tenure()
            except (LeaseExpiredError, StoreError, TimeoutError):
                continue  # lost it: stand again

    async def _tenure(self) -> None:
        client = self._client
        if await client.get(LOCK) != 0:
            return
        async with asyncio.timeout(PATIENCE_S):
            lease = await client.store.grant(TTL_S)
        mine = Put(LOCK, client.token().encode(), lease)
        since = await client.commit([Compare(LOCK, 0)], [mine])
        if not since:
            return
        keeping = asyncio.create_task(self._keep(lease))
        try:
            while not keeping.done():
                await asyncio.sleep(client.choose.uniform(0, PACE_S))  # the work itself
                fence = [Compare(LOCK, since)] if self._fenced else []
                data = Put(GUARDED, client.token().encode())
                if await client.commit(fence, [data], tenure=(LOCK, since)) == 0:
                    return
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, lease: int) -> None:
        while True:
            await asyncio.sleep(TTL_S / 4)
            async with asyncio.timeout(PATIENCE_S):
                await self._client.store.keep_alive(lease)


async def watch(store: Store, record: Recorder, prefix: str) -> None:
    """Follow a prefix forever: list, watch from there, list again when history is gone."""
    position: int | None = None
    while True:
        try:
            async with asyncio.timeout(PATIENCE_S):
                position = position or await _list(store, record, prefix)
            async for batch in store.watch([prefix], position):
                cells = [
                    cell_of(change.item) if change.item else Cell(change.key, None)
                    for change in batch.changes
                ]
                record.heard(prefix, batch.revision, cells, listed=False)
                position = batch.revision
        except CompactedError:
            position = None
        except (StoreError, TimeoutError):
            await asyncio.sleep(0.1)  # and on from where it was


async def _list(store: Store, record: Recorder, prefix: str) -> int:
    listing = await store.list(prefix)
    record.heard(prefix, listing.revision, map(cell_of, listing.items), listed=True)
    return listing.revision
