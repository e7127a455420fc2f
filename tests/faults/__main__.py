"""The long run, by hand: `make faults ARGS="--faults 200 --seed 7"`. Exits 0 when all is well,
1 when something was found, 2 when it could not run, 130 after Ctrl-C (then --resume goes on)."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from plumctl.errors import PlumError
from plumctl.sandbox.layout import current_layout
from tests.faults import report
from tests.faults.arena import Arena
from tests.faults.bugs import Bug
from tests.faults.plan import Fault, plan, targets
from tests.faults.run import VICTIMS, go

LEG = 40  # groups of faults in one zone; then its histories are checked and a new one is made
RESULTS = Path(__file__).with_name("results")


def main() -> int:
    given = _parse()
    _heed_signals()
    begun = _begin(given)
    print(f"seed {begun.seed}, {begun.wanted} faults, {begun.done} of them done", flush=True)
    groups = _left(begun)
    while leg := list(itertools.islice(groups, LEG)):
        folder = given.results / "legs" / f"{len(begun.legs) + 1}"
        shutil.rmtree(folder, ignore_errors=True)
        arena = Arena(
            current_layout(), folder, begun.seed + len(begun.legs), begun.store, given.bug
        )
        result, broken_off = go(arena, leg, say=_say)
        begun.add(result)
        begun.write(given.results)
        _tell(begun, result.plain())
        if broken_off:
            print(f"broken off: go on with --resume --results {given.results}", file=sys.stderr)
            return 130
        if result.passed and not given.keep:
            shutil.rmtree(folder)
    print(f"{'passed' if begun.passed else 'FAILED'}: {given.results / 'report.md'}")
    return 0 if begun.passed else 1


def _heed_signals() -> None:
    """Heal and clear up before the end, also where a shell had us ignore Ctrl-C. Not in
    children: pyroute2 forks, and ends what it forked by SIGTERM."""
    ourselves = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() != ourselves:
            os._exit(128 + number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="the same faults again (default: by the clock)")
    parser.add_argument("--store", default="etcd", choices=["etcd", "sqlite"])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--resume", action="store_true", help="go on with the report there")
    parser.add_argument("--keep", action="store_true", help="keep histories of legs that passed")
    parser.add_argument("--bug", type=Bug, default=Bug.NONE, choices=list(Bug), help="plant one")
    return parser.parse_args()


def _begin(given: argparse.Namespace) -> report.Report:
    if given.resume:
        try:
            return report.read(given.results)
        except FileNotFoundError:
            raise SystemExit(f"nothing to resume in {given.results}: leave --resume out") from None
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    return report.Report(seed, given.faults, given.store)


def _left(begun: report.Report) -> Iterator[Sequence[Fault]]:
    arena = Arena(current_layout(), RESULTS, begun.seed, begun.store)
    groups = plan(begun.seed, begun.wanted, targets(arena.nodes, arena.members, VICTIMS))
    before, skipped = begun.done, 0  # `done` grows while the rest is drawn from here
    for group in groups:
        if skipped < before:
            skipped += len(group)
        else:
            yield group


def _say(text: str) -> None:
    print(f"{time.monotonic():.1f} {text}", flush=True)


def _tell(begun: report.Report, leg: dict[str, object]) -> None:
    print(f"{begun.done} of {begun.wanted} faults: {'well' if leg['passed'] else 'FOUND:'}")
    for sort in ("history", "traffic", "nodes"):
        found = leg[sort]
        assert isinstance(found, list)
        for text in found[:10]:
            print(f"  {sort}: {text}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlumError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        sys.exit(2)
