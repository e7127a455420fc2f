"""Some agents in one process: `python -m bench.scale.agents STORE FIRST LAST`.

Each is what plumd is without a kernel: its own follower, its own compiled rows. They
share an event loop, a connection's worth of Python, and the cache of decoded objects.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import Any

from bench.scale.meter import Meter, MeteredStore
from bench.scale.process import Request, serve
from bench.scale.size import node_name
from daemon.compiler.result import Device, Runtime
from daemon.model.snapshot import Snapshot
from daemon.reconcile.follow import Follower
from daemon.reconcile.keeping import Keeper
from daemon.store.open import open_store

RUNTIME = Runtime(underlay_ifindex=2)
#: Agents of a process that start at the same time. On machines of their own all would;
#: in one process they would only wait for each other's compilations.
AT_ONCE = 4


class Agent:
    def __init__(self, store: MeteredStore, node: str) -> None:
        self.node = node
        self.follower = Follower(store, node, self._receive, self._failed)
        self.ready = asyncio.Event()
        self.failures = 0  # of the store
        self._keeper = Keeper()
        self._devices: dict[str, Device] = {}
        #: Revision, when it was compiled (monotonic), and seconds of CPU that took.
        self.compiled: list[tuple[int, float, float]] = []

    def _failed(self, reason: str) -> None:
        self.failures += 1

    def _receive(self, snapshot: Snapshot) -> None:
        since = time.thread_time()
        devices = {
            path: self._devices.get(path) or Device(1000 + endpoint.slot)
            for path, endpoint in snapshot.endpoints.items()
            if endpoint.spec.node == self.node
        }
        self._devices = devices
        if self.node in snapshot.nodes:
            self._keeper.compile(snapshot, self.node, devices, RUNTIME)
        took = time.thread_time() - since
        self.compiled.append((snapshot.revision, time.monotonic(), took))
        self.ready.set()


class Agents:
    def __init__(self, store: MeteredStore, meter: Meter, first: int, last: int) -> None:
        self._meter = meter
        self._agents = [Agent(store, node_name(n)) for n in range(first, last + 1)]
        self._tasks: list[asyncio.Task[None]] = []

    async def answer(self, request: Request) -> Any:
        match request["do"]:
            case "start":
                return await self._start()
            case "report":
                return self._report()
        raise ValueError(f"no such request: {request}")

    async def _start(self) -> dict[str, float]:
        """Until every agent has compiled its part."""
        since = time.monotonic()
        gate = asyncio.Semaphore(AT_ONCE)

        async def begin(agent: Agent) -> None:
            async with gate:
                self._tasks.append(asyncio.create_task(agent.follower.run()))
                await agent.ready.wait()

        await asyncio.gather(*map(begin, self._agents))
        return {"seconds": time.monotonic() - since}

    def _report(self) -> dict[str, Any]:
        """What happened since the last report."""
        compiled = {agent.node: list(agent.compiled) for agent in self._agents}
        for agent in self._agents:
            agent.compiled.clear()
        meter = self._meter
        report = {
            "compiled": {node: some for node, some in compiled.items() if some},
            "received": meter.received,
            "watched": meter.watched,
            "batches": meter.batches,
            "reads": meter.reads,
            "failures": sum(agent.failures for agent in self._agents),
            "listings": sum(agent.follower.listings for agent in self._agents),
            "cpu_s": time.process_time(),
        }
        meter.reads = []
        return report

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def main(url: str, first: int, last: int) -> None:
    logging.disable()  # failures are counted, and a store that is away has many
    meter = Meter()
    async with await open_store(url) as store:
        agents = Agents(MeteredStore(store, meter), meter, first, last)
        try:
            await serve(agents.answer)
        finally:
            await agents.stop()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
