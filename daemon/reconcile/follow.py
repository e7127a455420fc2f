"""From the store's watch to snapshots. Touches no kernel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from daemon.model.snapshot import Snapshot
from daemon.store.interface import CompactedError, Store, StoreError
from daemon.zone.keys import OBJECT_PREFIXES
from daemon.zone.read import advance, read_snapshot

log = logging.getLogger(__name__)

RETRY_S = 1.0


async def follow(
    store: Store,
    receive: Callable[[Snapshot], None],
    failed: Callable[[str], None],
    retry_s: float = RETRY_S,
) -> None:
    """Calls `receive` with every state, forever. While the store does not answer
    nothing is received, so the last state stays; `failed` is told why."""
    while True:
        try:
            snapshot = await read_snapshot(store)
            receive(snapshot)
            async for batch in store.watch(OBJECT_PREFIXES, snapshot.revision):
                snapshot = advance(snapshot, batch)
                receive(snapshot)
            log.warning("the watch ended, listing again", extra={"step": "watch"})
        except CompactedError:
            log.info("watched history is gone, listing again", extra={"step": "watch"})
            continue
        except StoreError as error:
            log.error("store", extra={"step": "watch", "error": str(error)})
            failed(str(error))
        await asyncio.sleep(retry_s)
