"""Run suites and write their results: `python -m bench.run [SUITE...] [--quick]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from bench.loadtool import LoadFailed
from bench.netns import CommandFailed, remove_abandoned
from bench.plan import Plan, full, quick
from bench.result import RESULTS, Measurement, markdown, write
from bench.topology import ContenderFailed

#: In this order. Those that measure Plum alone cannot run without it.
WITH_CONTENDERS = ("forwarding", "rules", "nat")
PLUM_ALONE = ("endpoints", "restart", "cli")
SUITES = WITH_CONTENDERS + PLUM_ALONE

EXIT_BAR_MISSED = 1
EXIT_USAGE = 2
EXIT_NOT_MEASURED = 3
EXIT_TERMINATED = 128 + signal.SIGTERM


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Measure Plum beside what an operator could pick instead.",
        epilog=f"Exit code: 0 every bar holds, {EXIT_BAR_MISSED} one does not, "
        f"{EXIT_NOT_MEASURED} a suite could not measure.",
    )
    parser.add_argument("suite", nargs="*", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="all suites in two minutes")
    parser.add_argument(
        "--without-plum", action="store_true", help="measure the other contenders only"
    )
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.suite if name not in SUITES]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    chosen.suite = chosen.suite or list(WITH_CONTENDERS if chosen.without_plum else SUITES)
    if chosen.without_plum and set(chosen.suite) & set(PLUM_ALONE):
        parser.error(f"{', '.join(PLUM_ALONE)} measure Plum alone")
    return chosen


def load_suites(names: Sequence[str]) -> dict[str, Callable[[Plan], list[Measurement]]]:
    return {name: import_module(f"bench.suites.{name}").run for name in names}


def run_suites(
    suites: Mapping[str, Callable[[Plan], list[Measurement]]], plan: Plan
) -> dict[str, list[Measurement] | str]:
    """Rows of each suite, or in words why it could not measure."""
    outcome: dict[str, list[Measurement] | str] = {}
    for name, suite in suites.items():
        started = time.monotonic()
        try:
            outcome[name] = suite(plan)
        except (CommandFailed, ContenderFailed, LoadFailed) as error:
            outcome[name] = str(error)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return outcome


def report(outcome: Mapping[str, list[Measurement] | str], *, keep: bool) -> int:
    """Print the tables, write the files, and return the exit code."""
    code = 0
    for name, rows in outcome.items():
        if isinstance(rows, str):
            print(f"{name}: not measured: {rows}", file=sys.stderr)
            code = EXIT_NOT_MEASURED
            continue
        print(markdown(name, rows))
        if keep:
            write(name, rows)
        if not code and any(one.holds is False for one in rows):
            code = EXIT_BAR_MISSED
    return code


def main(arguments: Sequence[str]) -> int:
    chosen = parse(arguments)
    if os.geteuid() != 0:
        print("bench: network namespaces need root: run it with sudo", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    for name in remove_abandoned():
        print(f"removed namespace {name} of a run that was killed", file=sys.stderr)
    plan = (quick if chosen.quick else full)(not chosen.without_plum)
    outcome = run_suites(load_suites(chosen.suite), plan)
    keep = not chosen.without_plum
    code = report(outcome, keep=keep)
    if keep:
        print(f"results: {RESULTS}", file=sys.stderr)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
