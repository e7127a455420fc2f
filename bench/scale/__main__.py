"""`python -m bench.scale [--quick] [--store URL]`: simulate a zone and write the results."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.result import RESULTS, Measurement, at_most, markdown, write
from bench.run import EXIT_BAR_MISSED, EXIT_NOT_MEASURED
from bench.scale.plot import plot
from bench.scale.process import ProcessFailed
from bench.scale.server import server
from bench.scale.simulation import Outcome, Phase, simulate
from bench.scale.size import FULL, QUICK
from bench.stats import percentile
from daemon.store.interface import StoreError

#: Longest a run may take.
LIMIT_S = 600.0
#: How much dearer a change may be with the most agents than with the fewest.
FLAT = at_most(1.5)
ADD_BAR = at_most(50)
COLD_BAR = at_most(1)


def measurements(outcome: Outcome) -> list[Measurement]:
    rows: list[Measurement] = []
    for one in outcome.phases:
        name, last = f"{one.agents:,} agents", one is outcome.phases[-1]
        asked = percentile(one.delays.asked, 99)
        written = percentile(one.delays.written, 99)
        rows += [
            Measurement(
                f"{name}: endpoint add to compiled on all nodes concerned, p99",
                "ms",
                (asked,),
                ADD_BAR if last else None,
                f"{percentile(one.delays.asked, 50):.0f} ms in the median; once the store has "
                f"it p99 is {written:.0f} ms; director, store and agents share the CPUs below, "
                f"of which they need {_cpus(one, outcome.size.rate):.2g}, and whatever else ran",
            ),
            Measurement(f"{name}: written to compiled, p99", "ms", (written,)),
            Measurement(f"{name}: one compilation, p99", "ms", (percentile(one.compile_ms, 99),)),
            Measurement(f"{name}: director, CPU of a change", "ms", (one.director_cpu_ms,)),
            Measurement(
                f"{name}: director, keys and values of a change", "KiB", (one.director_kib,)
            ),
            Measurement(f"{name}: all agents, CPU of a change", "ms", (one.agents_cpu_ms,)),
            Measurement(
                f"{name}: keys and values sent to all agents, a change", "KiB", (one.agents_kib,)
            ),
            Measurement(f"{name}: store, CPU of a change", "ms", (one.server_cpu_ms,)),
            Measurement(f"{name}: store, sent for a change", "KiB", (one.server_kib,)),
            Measurement(f"{name}: all start, until the last is ready", "s", (one.start_s,)),
            Measurement(
                f"{name}: reads under way at once while they start", "", (one.start.at_once,)
            ),
        ]
    few, many = outcome.phases[0], outcome.phases[-1]
    pair = f"with {many.agents:,} agents against {few.agents}"
    rows += [
        Measurement(
            f"director's CPU of a change {pair}",
            "times",
            (many.director_cpu_ms / few.director_cpu_ms,),
            FLAT,
        ),
        Measurement(
            f"director's bytes of a change {pair}",
            "times",
            (many.director_kib / few.director_kib,),
            FLAT,
        ),
    ]
    if outcome.cold:
        name = f"cold agent, {outcome.cold.endpoints:,} remote endpoints"
        rows += [
            Measurement(f"{name}: compile", "s", (outcome.cold.compile_s,), COLD_BAR),
            Measurement(f"{name}: listed, decoded and compiled", "s", (outcome.cold.ready_s,)),
        ]
    if outcome.restart:
        again = outcome.restart
        name = f"store back after {again.away_s:g} s, {again.agents:,} agents"
        rows += [
            Measurement(
                f"{name}: agents that list their part again", "", (again.listings,), at_most(0)
            ),
            Measurement(f"{name}: reads under way at once", "", (again.peak.at_once,)),
            Measurement(
                f"{name}: read in the busiest tenth of a second", "MiB/s", (again.peak.mib_per_s,)
            ),
            Measurement(f"{name}: longest add to compiled", "s", (again.again_s,)),
        ]
    return rows


def _cpus(phase: Phase, rate: float) -> float:
    """What a steady rate of changes needs."""
    every = (phase.director_cpu_ms, phase.agents_cpu_ms, phase.server_cpu_ms)
    return sum(every) * rate / 1000


def panels(outcome: Outcome) -> dict[str, dict[int, float]]:
    return {
        "director, ms of CPU a change": {p.agents: p.director_cpu_ms for p in outcome.phases},
        "director, KiB a change": {p.agents: p.director_kib for p in outcome.phases},
        "endpoint add to compiled, p99, ms": {
            p.agents: percentile(p.delays.asked, 99) for p in outcome.phases
        },
    }


async def run(url: str | None, *, quick: bool) -> Outcome:
    size = QUICK if quick else FULL
    async with asyncio.timeout(LIMIT_S):
        if url is not None:
            return await simulate(url, size)
        with server() as own:
            return await simulate(own.url, size, own)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small zone, half a minute, nothing is kept"
    )
    parser.add_argument("--store", help="URL of an empty store; default: an etcd member of its own")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    name = "scale-quick" if chosen.quick else "scale"
    try:
        outcome = asyncio.run(run(chosen.store, quick=chosen.quick))
    except (ProcessFailed, StoreError, TimeoutError) as error:
        print(f"scale: not measured: {error!r}", file=sys.stderr)
        return EXIT_NOT_MEASURED
    rows = measurements(outcome)
    print(markdown(name, rows))
    if not chosen.quick:
        write(name, rows)
        Path(RESULTS / f"{name}.svg").write_text(plot(panels(outcome)))
        print(f"results: {RESULTS}", file=sys.stderr)
    return EXIT_BAR_MISSED if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
