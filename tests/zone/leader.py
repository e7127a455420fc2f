"""A process that stands for a job: `leader.py URL JOB NODE KEY`. For tests that pause it.

While it leads it writes its name and a number to KEY, again and again, behind its fence. On
stdout, a line each: `leads REVISION`, `refused`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from daemon.store.interface import Compare, Put, StoreError
from daemon.store.open import open_store
from daemon.zone.election import lead

TTL_S = 2.0
EVERY_S = 0.02


async def main(url: str, job: str, node: str, key: str) -> None:
    async with await open_store(url) as store:
        numbers = itertools.count()

        async def write(fence: Compare) -> None:
            committed = await store.commit([fence], [Put(key, f"{node} {next(numbers)}".encode())])
            if not committed.succeeded:
                print("refused", flush=True)
                raise StoreError("another node leads")

        async def work(fence: Compare) -> None:
            print(f"leads {fence.mod_revision}", flush=True)
            while True:
                # Whoever wakes finds its time up before it finds its lease gone: a write that
                # was begun then is seen to its end.
                await asyncio.shield(write(fence))
                await asyncio.sleep(EVERY_S)

        await lead(store, job, node, work, TTL_S)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
