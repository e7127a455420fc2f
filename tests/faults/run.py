"""One run: a zone, clients and traffic, a list of faults, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumctl.errors import PlumError
from tests.faults import certificates, history, verdict
from tests.faults.arena import Arena, ArenaError
from tests.faults.checker import check
from tests.faults.history import History, Outcome
from tests.faults.nemesis import Nemesis
from tests.faults.plan import Fault
from tests.faults.settle import Settler
from tests.faults.traffic import LOST_S

#: Clients that faults may hit.
VICTIMS = ("registers-1", "registers-2", "holder-1", "holder-2", "api-1")


@dataclass
class Result:
    """Everything found wrong, by where; all empty is a pass."""

    faults: list[Fault] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    traffic: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    slowest_settle_s: float = 0.0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not (self.history or self.traffic or self.nodes)

    def plain(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "faults": [fault.plain() for fault in self.faults],
            "by_kind": {
                kind: sum(fault.kind == kind for fault in self.faults)
                for kind in sorted({fault.kind for fault in self.faults})
            },
            "history": self.history,
            "traffic": self.traffic,
            "nodes": self.nodes,
            "counts": self.counts,
            "slowest_settle_s": round(self.slowest_settle_s, 2),
            "seconds": round(self.seconds, 1),
        }


def go(
    arena: Arena,
    groups: Iterable[Sequence[Fault]],
    *,
    say: Callable[[str], object] = str,
    pause_s: float = 0.3,
) -> tuple[Result, bool]:
    """Every fault, healed again, and the verdict. True: Ctrl-C came, and this is the verdict
    on what was done until then."""
    result, began, broken_off = Result(), time.monotonic(), False
    cuts: list[verdict.Cut] = []
    try:
        with arena.up():
            nemesis = Nemesis(arena, arena.folder / "faults.jsonl")
            settler = Settler(arena)
            try:
                settler.settle(time.monotonic())  # everybody is there
                settler.slowest_s = 0.0
                for group in groups:
                    _suffer(nemesis, group, pause_s, say)
                    result.faults += group
                    result.nodes += settler.settle(time.monotonic())
                    result.nodes += certificates.unreached(arena)
            finally:
                nemesis.heal_all()
                cuts, result.slowest_settle_s = nemesis.cuts, settler.slowest_s
                _let_resume(cuts)
                arena.stop_clients()
    except (ArenaError, PlumError) as error:
        result.nodes.append(str(error))
    except KeyboardInterrupt:
        broken_off = True
    result.seconds = time.monotonic() - began
    if arena.flows:
        _judge(arena, cuts, result)
    return result, broken_off


def _suffer(
    nemesis: Nemesis, group: Sequence[Fault], pause_s: float, say: Callable[[str], object]
) -> None:
    """Begin together, end one by one when its time has come."""
    begun: list[tuple[float, Fault]] = []
    try:
        for fault in group:
            say(str(fault))
            nemesis.inject(fault)
            begun.append((time.monotonic() + fault.hold_s, fault))
        for until_s, fault in sorted(begun, key=lambda pair: pair[0]):
            time.sleep(max(0.0, until_s - time.monotonic()))
            nemesis.heal(fault)
    finally:
        nemesis.heal_all()
    time.sleep(pause_s)


def _let_resume(cuts: Sequence[verdict.Cut]) -> None:
    """What is sent just now must be known as answered or lost, and a cut's flows go on."""
    until_s = time.monotonic() + LOST_S + 0.5
    for cut in cuts[-2:]:
        until_s = max(until_s, cut.healed_s + verdict.RESUME_S)
    time.sleep(until_s - time.monotonic())


def _judge(arena: Arena, cuts: Sequence[verdict.Cut], result: Result) -> None:
    told = history.read(arena.folder.glob("history-*.jsonl"))
    result.history = [str(finding) for finding in check(told)]
    result.traffic, counts = verdict.judge(arena.flows, cuts, arena.folder / "traffic.jsonl")
    result.counts = {**_counts(told), **counts}
    result.history += _too_little(told)


def _counts(told: History) -> dict[str, int]:
    counts: dict[str, int] = {}
    for op in told.ops:
        name = f"{op.action} {op.outcome}"
        counts[name] = counts.get(name, 0) + 1
    counts["watched batches"] = sum(len(watch.heard) for watch in told.watches)
    counts["watches begun anew"] = sum(
        heard.listed for watch in told.watches for heard in watch.heard
    ) - len(told.watches)
    counts["settled"] = len(told.settled)
    return counts


def _too_little(told: History) -> list[str]:
    """A run in which nobody wrote proves nothing."""
    done = sum(op.outcome is Outcome.OK and bool(op.writes) for op in told.ops)
    fenced = sum(op.tenure is not None and op.done for op in told.ops)
    found = [] if done >= 20 else [f"only {done} writes were acknowledged"]
    return found + ([] if fenced else ["no write was made under a lock"])
