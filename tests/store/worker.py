"""The other process in the store's tests: `worker.py MODE URL [ARGUMENT]`. Speaks lines."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from daemon.store.interface import Compare, Delete, Put, Store, StoreError
from daemon.store.open import open_store


def say(*words: object) -> None:
    print(*words, flush=True)


async def increment(store: Store, times: int) -> None:
    """Count up by compare-and-set; says how often it had to try again."""
    retries = 0
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(times):
        while True:
            item = await store.get("/counter")
            value = int(item.value) if item else 0
            expected = Compare("/counter", item.mod_revision if item else 0)
            committed = await store.commit([expected], [Put("/counter", b"%d" % (value + 1))])
            if committed.succeeded:
                break
            retries += 1
    say("retries", retries)


async def churn(store: Store, name: str) -> None:
    """Until killed: transactions of several keys. Says what is about to be, and what is."""
    step = 0
    while True:
        step += 1
        writes: list[Put | Delete] = [
            Put(f"/{name}/{part}", b"%d" % step + b"." * 2000 * part) for part in range(4)
        ]
        writes.append(Put(f"/{name}/odd", b"") if step % 2 else Delete(f"/{name}/odd"))
        committed = await store.commit([], writes)
        say(step, committed.revision)


async def echo(store: Store, prefix: str) -> None:
    """Says when (CLOCK_MONOTONIC, the same for all processes) it saw each change."""
    revision = (await store.list(prefix)).revision
    watch = store.watch([prefix], revision)
    say("ready")
    async for batch in watch:
        now = time.monotonic()
        for change in batch.changes:
            say(change.key, now)


async def fill(store: Store, ballast: str) -> None:
    """Write until the disk is full; then remove `ballast` and go on."""
    stored = 0
    try:
        while stored < 10_000:
            await store.commit([], [Put(f"/fill/{stored}", b"x" * 5000)])
            stored += 1
    except StoreError as error:
        say("refused", error)
    say("kept", sum([await store.get(f"/fill/{known}") is not None for known in range(stored)]))
    say("stored", stored)
    os.unlink(ballast)
    say("after", (await store.commit([], [Put("/after", b"")])).succeeded)


async def main() -> None:
    mode, url, *rest = sys.argv[1:]
    if mode == "as-nobody":
        os.setresuid(65534, 65534, 65534)
    try:
        store = await open_store(url)
    except StoreError as error:
        say("refused", error)
        return
    async with store:
        if mode == "increment":
            await increment(store, int(rest[0]))
        elif mode == "churn":
            await churn(store, rest[0])
        elif mode == "echo":
            await echo(store, rest[0])
        elif mode == "fill":
            await fill(store, rest[0])
        elif mode == "as-nobody":
            say("opened")
        else:
            raise SystemExit(f"unknown mode {mode}")


asyncio.run(main())
