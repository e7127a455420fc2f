"""Fills the zone and changes it: `python -m bench.scale.director STORE`.

Changes go the whole way of a real one: planned against the zone, checked, allocated,
written in one transaction with its history.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from bench.scale import size as zone
from bench.scale.meter import Meter, MeteredStore
from bench.scale.process import Request, serve
from bench.scale.size import Size
from daemon.model.manifest import read_manifests
from daemon.model.object import Endpoint, Object, ref_of
from daemon.store.interface import Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply
from daemon.zone.keys import ZONE, object_key
from daemon.zone.placement import placement_of
from daemon.zone.read import encode, read_current

#: Writes of one transaction while the zone is filled; etcd takes 128 by default.
CHUNK = 100
RETRY_S = 0.05


async def fill(store: Store, items: Iterable[Object]) -> int:
    """Write objects as they are. How many keys that took."""
    writes: dict[str, Put] = {}
    for item in items:
        key = object_key(ref_of(item))
        writes[key] = Put(key, encode(item))
        if isinstance(item, Endpoint):
            place = placement_of(item)
            writes[place] = Put(place, b"")
    every = list(writes.values())
    for start in range(0, len(every), CHUNK):
        await store.commit([], every[start : start + CHUNK])
    return len(every)


class Director:
    def __init__(self, store: MeteredStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._added = 0

    async def answer(self, request: Request) -> Any:
        size = Size(**request["size"])
        match request["do"]:
            case "fill":
                count = await fill(self._store, zone.fixtures(size))
                count += await fill(self._store, zone.endpoints(size))
                counters = zone.counters(size).model_dump_json().encode()
                await self._store.commit([], [Put(ZONE, counters)])
                await read_current(self._store)
                return count
            case "cold":
                return await fill(self._store, zone.cold_endpoints(size))
            case "change":
                return await self._change(size, request["agents"], request["changes"])
        raise ValueError(f"no such request: {request}")

    async def _change(self, size: Size, agents: int, changes: int) -> dict[str, Any]:
        """One endpoint more at a time, at the size's rate. Due by a fixed timetable, so
        that a slow one does not excuse the next."""
        owners = size.domains_of(agents)
        await self._add(size, owners[0])  # reads the zone
        done = []
        cpu, bytes_ = time.process_time(), self._meter.total
        start = time.monotonic()
        for number in range(changes):
            due = start + number / size.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            owner = owners[number % len(owners)]
            began = time.monotonic()
            revision = await self._add(size, owner)
            nodes = [zone.node_name(on) for on in size.hosts(owner)]
            done.append((revision, due, began, time.monotonic(), nodes))
        return {
            "done": done,
            "cpu_s": time.process_time() - cpu,
            "bytes": self._meter.total - bytes_,
        }

    async def _add(self, size: Size, owner: int) -> int:
        self._added += 1
        hosts = size.hosts(owner)
        on = hosts[self._added % len(hosts)]
        manifest = zone.addition(owner, f"x{self._added}", on, self._added)
        while True:
            try:
                result = await apply(self._store, read_manifests([manifest]), actor="bench")
                return result.revision
            except StoreError:  # it was restarted; applying twice is applying once
                await asyncio.sleep(RETRY_S)


async def main(url: str) -> None:
    meter = Meter()
    async with await open_store(url) as store:
        await serve(Director(MeteredStore(store, meter), meter).answer)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
