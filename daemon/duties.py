"""What a plumd does for the zone besides its own node: signs of life, the mesh, and, on
a director, the jobs that one director does for all."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress

from daemon.mesh.prober import Prober
from daemon.model.base import Address
from daemon.model.node import Role
from daemon.reconcile.loop import Reconciler
from daemon.store.interface import Compare, Put, Store, StoreError
from daemon.zone.election import lead, stay_alive
from daemon.zone.keys import ALIVE, MESH
from daemon.zone.liveness import watch_over

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Duties:
    def __init__(self, reconciler: Reconciler, store: Store) -> None:
        self._reconciler = reconciler
        self._store = store
        self.prober = Prober(self._own, self._peers)

    async def run(self) -> None:
        """Until cancelled."""
        node = self._reconciler.node
        said = json.dumps({"version": self._reconciler.version}).encode()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.prober.run())
            tasks.create_task(stay_alive(self._store, f"{ALIVE}{node}", said))
            tasks.create_task(self._tell_mesh())
            tasks.create_task(self._direct())

    def _own(self) -> Address | None:
        own = self._reconciler.snapshot.nodes.get(self._reconciler.node)
        return own.spec.vtep if own else None

    def _peers(self) -> dict[str, Address]:
        nodes = self._reconciler.snapshot.nodes
        return {n: node.spec.vtep for n, node in nodes.items() if n != self._reconciler.node}

    async def _tell_mesh(self) -> None:
        """Whom we cannot reach: written when that changes, and once at the start."""
        told: list[str] | None = None
        while True:
            await asyncio.sleep(LOOK_S)
            unreachable = self.prober.unreachable()
            if unreachable == told or self._own() is None:
                continue
            value = json.dumps({"unreachable": unreachable}).encode()
            with suppress(StoreError):
                await self._store.commit([], [Put(f"{MESH}{self._reconciler.node}", value)])
                told = unreachable

    async def _direct(self) -> None:
        """Stand for the zone's jobs while this node is a director."""
        standing: asyncio.Task[None] | None = None
        try:
            while True:
                if self._is_director() and (standing is None or standing.done()):
                    standing = asyncio.create_task(
                        lead(self._store, "liveness", self._reconciler.node, self._liveness)
                    )
                elif not self._is_director() and standing is not None:
                    standing.cancel()
                    standing = None
                await asyncio.sleep(LOOK_S)
        finally:
            if standing is not None:
                standing.cancel()

    def _is_director(self) -> bool:
        own = self._reconciler.snapshot.nodes.get(self._reconciler.node)
        return own is not None and Role.DIRECTOR in own.spec.roles

    async def _liveness(self, fence: Compare) -> None:
        await watch_over(self._store, fence)
