"""A process that applies endpoints one by one: `python applier.py URL NAME COUNT`."""

from __future__ import annotations

import asyncio
import sys

from daemon.model.manifest import read_manifests
from daemon.store.open import open_store
from daemon.zone.apply import apply


async def main(url: str, name: str, count: int) -> None:
    async with await open_store(url) as store:
        for i in range(count):
            spec = {"domain": "d", "bridge": "web", "node": "n1"}
            manifest = {"kind": "endpoint", "name": f"{name}-{i}", "tenant": "t", "spec": spec}
            await apply(store, read_manifests([manifest]), actor=name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
