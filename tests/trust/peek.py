"""What the store holds under a key, for tests in another namespace: `peek.py URL KEY`.

Prints JSON: the value as text and its mod_revision; `null` when there is none.
"""

from __future__ import annotations

import asyncio
import json
import sys

from daemon.store.open import open_store


async def peek(url: str, key: str) -> None:
    async with await open_store(url) as store:
        item = await store.get(key)
    print(json.dumps([item.value.decode(), item.mod_revision] if item else None))


if __name__ == "__main__":
    asyncio.run(peek(*sys.argv[1:]))
