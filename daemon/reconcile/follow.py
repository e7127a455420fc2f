"""From the store's watch to snapshots. Touches no kernel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from daemon.model.snapshot import Snapshot
from daemon.store.interface import CompactedError, Store, StoreError
from daemon.zone.keys import OBJECT_PREFIXES, RESTORE
from daemon.zone.read import advance
from daemon.zone.restoring import begins, read_whole

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
            snapshot = await read_whole(store)
            receive(snapshot)
            async for batch in store.watch((*OBJECT_PREFIXES, RESTORE), snapshot.revision):
                if begins(batch):
                    break  # the last state stays until it is done
                snapshot = advance(snapshot, batch)
                receive(snapshot)
            else:
                log.warning("the watch ended, listing again", extra={"step": "watch"})
                await asyncio.sleep(retry_s)
            continue
        except CompactedError:
            log.info("watched history is gone, listing again", extra={"step": "watch"})
            continue
        except StoreError as error:
            log.error("store", extra={"step": "watch", "error": str(error)})
            failed(str(error))
        await asyncio.sleep(retry_s)
