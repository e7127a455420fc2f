"""The phases of a run, over any store."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from bench.scale.figures import Change, Compiled, Delays, Peak, delays, peak
from bench.scale.process import Process, ProcessFailed, started
from bench.scale.server import Server
from bench.scale.size import Size

#: How long the agents get for what is still on its way when the last change is written.
SETTLE_S = 10.0
AWAY_S = 2.0  # how long the store stays dead


@dataclass(frozen=True, slots=True)
class Phase:
    """What a number of agents cost."""

    agents: int
    delays: Delays
    compile_ms: tuple[float, ...]  # CPU of each compilation after a change
    director_cpu_ms: float  # a change
    director_kib: float  # a change
    agents_cpu_ms: float  # a change, all agents together
    agents_kib: float  # a change, all agents together
    server_cpu_ms: float  # a change; 0 where the store is no server
    server_kib: float  # it sent, a change
    start: Peak  # while all agents start
    start_s: float


@dataclass(frozen=True, slots=True)
class Cold:
    """An agent that needs every domain of the zone."""

    endpoints: int
    ready_s: float  # from nothing: listed, decoded, compiled
    compile_s: float  # CPU of the compilation alone


@dataclass(frozen=True, slots=True)
class Restart:
    """The store was killed and came back, all agents running."""

    agents: int
    away_s: float
    peak: Peak
    again_s: float  # longest a change took that was asked for after its return
    listings: int  # agents that listed all of their part again


@dataclass(slots=True)
class Outcome:
    size: Size
    phases: list[Phase] = field(default_factory=list)
    cold: Cold | None = None
    restart: Restart | None = None


class Crowd:
    """The agents of a phase, over their processes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self.start_s = 0.0

    async def start(self) -> None:
        answers = await asyncio.gather(*(one.ask(do="start") for one in self._processes))
        self.start_s = max(answer["seconds"] for answer in answers)

    async def report(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(one.ask(do="report") for one in self._processes)))


@asynccontextmanager
async def crowd(url: str, first: int, last: int, processes: int) -> AsyncIterator[Crowd]:
    """Agents of the nodes `first` to `last`."""
    count = last - first + 1
    processes = min(processes, count)
    edges = [first + count * number // processes for number in range(processes + 1)]
    async with AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(
                started("bench.scale.agents", url, str(low), str(high - 1))
            )
            for low, high in pairwise(edges)
        ]
        agents = Crowd(running)
        await agents.start()
        yield agents


async def simulate(url: str, size: Size, server: Server | None = None) -> Outcome:
    """Fill the store at `url` and measure. `server`: the one behind it, if it is ours.

    Raises ProcessFailed.
    """
    outcome = Outcome(size)
    async with started("bench.scale.director", url) as director:
        keys = await director.ask(do="fill", size=asdict(size))
        say(f"{size.total:,} endpoints in {size.domains} domains: {keys:,} keys")
        for agents in size.agents:
            async with crowd(url, 1, agents, size.processes) as running:
                outcome.phases.append(await _phase(director, running, size, agents, server))
                if server is not None and agents == size.agents[-1]:
                    outcome.restart = await _restart(director, running, size, server)
            say(
                f"{agents} agents: {outcome.phases[-1].director_cpu_ms:.0f} ms of director a change"
            )
        await director.ask(do="cold", size=asdict(size))
        async with crowd(url, size.nodes + 1, size.nodes + 1, 1) as running:
            (report,) = await running.report()
            ((_, _, compile_s),) = [some[0] for some in report["compiled"].values()]
            outcome.cold = Cold(size.total, running.start_s, compile_s)
    return outcome


async def _phase(
    director: Process, running: Crowd, size: Size, agents: int, server: Server | None
) -> Phase:
    before = await running.report()
    server_before = (server.cpu_s(), server.sent_bytes()) if server else (0.0, 0.0)
    answer = await director.ask(do="change", size=asdict(size), agents=agents, changes=size.changes)
    changes = answer["done"]
    after, compiled, found = await _arrived(running, changes)
    server_after = (server.cpu_s(), server.sent_bytes()) if server else (0.0, 0.0)
    first = changes[0][0]
    costs = [1000 * one[2] for some in compiled.values() for one in some if one[0] >= first]
    count = len(changes)
    gained = {
        key: sum(report[key] for report in after) - sum(report[key] for report in before)
        for key in ("cpu_s", "watched")
    }
    return Phase(
        agents=agents,
        delays=found,
        compile_ms=tuple(costs),
        director_cpu_ms=1000 * answer["cpu_s"] / count,
        director_kib=answer["bytes"] / count / 1024,
        agents_cpu_ms=1000 * gained["cpu_s"] / count,
        agents_kib=gained["watched"] / count / 1024,
        server_cpu_ms=1000 * (server_after[0] - server_before[0]) / count,
        server_kib=(server_after[1] - server_before[1]) / count / 1024,
        start=peak([read for report in before for read in report["reads"]]),
        start_s=running.start_s,
    )


async def _arrived(
    running: Crowd, changes: Sequence[Change]
) -> tuple[list[dict[str, Any]], dict[str, list[Compiled]], Delays]:
    """Wait until every node concerned has compiled every change: the last reports, what
    was compiled meanwhile, and when. Raises ProcessFailed."""
    compiled: dict[str, list[Compiled]] = {}
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        reports = await running.report()
        for report in reports:
            for node, some in report["compiled"].items():
                compiled.setdefault(node, []).extend(some)
        found = delays(changes, compiled)
        if not found.missing:
            return reports, compiled, found
        if asyncio.get_running_loop().time() > deadline:
            raise ProcessFailed(f"{found.missing} changes never reached everybody concerned")
        await asyncio.sleep(0.2)


async def _restart(director: Process, running: Crowd, size: Size, server: Server) -> Restart:
    """Kill the store, start it again, and see how hard everybody comes back at it."""
    before = await running.report()
    server.kill()
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(server.start)
    back = time.monotonic()
    request = {"size": asdict(size), "agents": size.agents[-1], "changes": size.blocks}
    answer = await director.ask(do="change", **request)
    after, _, found = await _arrived(running, answer["done"])
    reads = [read for report in after for read in report["reads"]]
    return Restart(
        agents=size.agents[-1],
        away_s=AWAY_S,
        peak=peak([read for read in reads if read[1] >= back]),
        again_s=max(found.asked) / 1000,
        listings=sum(one["listings"] for one in after) - sum(one["listings"] for one in before),
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
