"""From the store's watch to snapshots of what concerns one node. Touches no kernel."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from daemon.model.snapshot import Snapshot
from daemon.store.interface import Batch, CompactedError, Store, StoreError
from daemon.zone.keys import placement_prefix
from daemon.zone.read import ForeignObjectError
from daemon.zone.restoring import begins, until_restored
from daemon.zone.scope import Scoped, enter, read_base

log = logging.getLogger(__name__)

#: Longest pause before the store is asked again. What all nodes lose at the same moment
#: they must not all come back for at the same moment: each takes a random share of it.
RETRY_S = 2.0

#: An object of a later model stays until somebody upgrades this node or takes it back:
#: the node's part is listed again that much more rarely.
FOREIGN_RETRIES = 10


class Follower:
    """Follows the node's part of the zone, forever.

    `receive` gets every state. While the store does not answer nothing is received, so
    the last state stays; `failed` is told why. Afterwards the watch goes on where it
    was: only when that history is gone, or the store is another one, is the node's part
    listed again. A restore is waited for: half of it is nothing to act upon.
    """

    def __init__(
        self,
        store: Store,
        node: str,
        receive: Callable[[Snapshot], None],
        failed: Callable[[str], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._store = store
        self._node = node
        self._receive = receive
        self._failed = failed
        self._retry_s = retry_s
        self._state: Scoped | None = None
        self._told: Snapshot | None = None
        self.batches = 0  # that the store sent
        self.listings = 0  # of all the node's part

    async def run(self) -> None:
        while True:
            pause_s = self._retry_s
            try:
                await self._follow()
                log.warning("the watch ended, going on", extra={"step": "watch"})
            except CompactedError:
                log.info("watched history is gone, listing again", extra={"step": "watch"})
                self._state = None
            except StoreError as error:
                log.error("store", extra={"step": "watch", "error": str(error)})
                self._failed(str(error))
                if isinstance(error, ForeignObjectError):
                    self._state = None  # the watch would send it again, also when it is gone
                    pause_s *= FOREIGN_RETRIES
            await asyncio.sleep(random.uniform(0, pause_s))

    async def _follow(self) -> None:
        state = await self._resume()
        while True:
            if not state.listed:
                state = await enter(self._store, state)
            self._tell(state)
            watch = self._store.watch(state.prefixes, state.revision, state.keys)
            async with aclosing(cast(AsyncGenerator[Batch, None], watch)) as batches:
                async for batch in batches:
                    self.batches += 1
                    if begins(batch):
                        self._state = None  # of the store; what was received stays
                        return
                    state = state.after(batch)
                    if not state.listed:
                        break  # the watch no longer fits
                    self._tell(state)
                else:
                    return

    async def _resume(self) -> Scoped:
        """Where we were, unless the store has gone back behind it: it was restored."""
        state = self._state
        if state is not None:
            now = (await self._store.list(placement_prefix(self._node))).revision
            if now >= state.revision:
                return state
            log.warning("the store went back, listing again", extra={"step": "watch"})
        while await until_restored(self._store):
            pass
        self.listings += 1
        return await read_base(self._store, self._node)

    def _tell(self, state: Scoped) -> None:
        self._state = state
        if state.complete and state.snapshot is not self._told:
            self._told = state.snapshot
            self._receive(state.snapshot)


async def follow(
    store: Store,
    node: str,
    receive: Callable[[Snapshot], None],
    failed: Callable[[str], None],
) -> None:
    """Calls `receive` with every state of the node's part of the zone, forever."""
    await Follower(store, node, receive, failed).run()
