"""Is there one order of all operations that explains what every client was told?

The store numbers its states: each commit that writes makes one revision, and nearly
every answer says which revision it speaks of. So the order need not be searched for
(as for registers without numbers, where it is NP-complete): it is given, and checking
it is one pass over the operations by time. The store is one object for all keys, which
is stronger than a register for each: what any client saw done, all clients that ask
later must see. Operations whose outcome is unknown are placed where somebody saw their
token, and are otherwise allowed to have happened or not.

Sound: a history of a correct store is never refused. A write of unknown outcome that
nobody saw excuses only what it could explain (a compare that failed, a key that is
gone), and not even that where a watch that missed nothing had gone past it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.history import Action, Cell, Heard, History, Op, Outcome, Settled, Watched
from tests.faults.versions import Version, Versions

#: Seconds a watcher has from the end of a fault to be where a fresh listing is.
CONVERGE_S = 5.0


class Fault(StrEnum):
    """What a history can be refused for."""

    LOST = "an acknowledged write is lost"
    STALE = "a read is stale"
    ORDER = "answers contradict each other"
    COMPARE = "a compare was judged wrongly"
    FENCE = "a stale write was accepted after the lease ran out"
    WATCH = "a watch missed or made up something"
    CONVERGE = "a watcher did not converge"


@dataclass(frozen=True, slots=True)
class Finding:
    fault: Fault
    text: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.text}"


def check(history: History, converge_s: float = CONVERGE_S) -> list[Finding]:
    """Everything that no correct store could have answered. Empty: all is explained."""
    versions = Versions(history)
    return [
        *(Finding(Fault.ORDER, text) for text in versions.contradictions),
        *_order(history, versions),
        *_commits(history, versions),
        *_listings(history, versions),
        *(found for watch in history.watches for found in _watch(watch, versions)),
        *(
            found
            for watch in history.watches
            for settled in history.settled
            if settled.key.startswith(watch.prefix)
            for found in _converged(watch, settled, converge_s)
        ),
    ]


# Order in time


@dataclass(slots=True)
class _Floor:
    """The newest revision that somebody was told of, and who."""

    revision: int = 0
    by: Op | None = None

    def raise_to(self, revision: int, by: Op) -> None:
        if revision > self.revision:
            self.revision, self.by = revision, by

    def __str__(self) -> str:
        ended = f", answered at {self.by.ended_s:.3f} s" if self.by else ""
        return f"revision {self.revision} ({self.by}{ended})"


def _order(history: History, versions: Versions) -> Iterator[Finding]:
    """No operation goes back behind what was already answered when it began.

    Each operation gets the earliest place it can have. Later ones then have the most
    room, so if this order breaks, every order does.
    """
    told = [op for op in history.ops if op.outcome is not Outcome.UNKNOWN]
    moments = [(op.began_s, 1, index) for index, op in enumerate(told)]
    moments += [(op.ended_s, 0, index) for index, op in enumerate(told)]
    # What happens at the same moment overlaps: beginnings first.
    moments.sort(key=lambda moment: (moment[0], -moment[1]))
    floor, places = _Floor(), [0] * len(told)
    for _, beginning, index in moments:
        op = told[index]
        if not beginning:
            floor.raise_to(places[index], op)
            continue
        places[index], finding = _placed(op, floor, versions)
        if finding:
            yield finding


def _placed(op: Op, floor: _Floor, versions: Versions) -> tuple[int, Finding | None]:
    if op.action is Action.GET:
        return _placed_get(op, floor, versions)
    if not op.revision:
        return 0, None
    if op.action is Action.COMMIT and op.done and op.writes:
        if op.revision <= floor.revision:
            text = f"{op} was given revision {op.revision}, but {floor} came before it began"
            return op.revision, Finding(Fault.ORDER, text)
        return op.revision, None
    if op.revision < floor.revision:
        text = f"{op} saw revision {op.revision}, but {floor} came before it began"
        return op.revision, Finding(Fault.STALE, text)
    return op.revision, None


def _placed_get(op: Op, floor: _Floor, versions: Versions) -> tuple[int, Finding | None]:
    cell = op.found[0] if op.found else Cell(op.scope, None)
    writer = versions.at(cell.key, cell.mod_revision).op if cell.token else None
    if writer and writer.began_s > op.ended_s:
        text = f"{op} found {cell.token}, which was written only later: {writer}"
        return cell.mod_revision, Finding(Fault.ORDER, text)
    if cell.token is None and versions.may_differ(op.scope, op.ended_s, absent=True):
        return floor.revision, None
    for start, end in versions.spans(op.scope, cell):
        if max(start, floor.revision) < end:
            return max(start, floor.revision), None
    now = versions.at(op.scope, floor.revision)
    lost = now.op is not None and now.op.done and cell.mod_revision < now.revision
    text = (
        f"{op} found {_shown(cell)}, but {floor} came before it began, and by then {op.scope} "
        f"was {now.token or 'deleted'} (revision {now.revision}{_by(now)})"
    )
    return cell.mod_revision, Finding(Fault.LOST if lost and not cell.token else Fault.STALE, text)


# What was written


def _commits(history: History, versions: Versions) -> Iterator[Finding]:
    for op in history.ops:
        if op.action is not Action.COMMIT or not op.revision:
            continue
        if op.outcome is Outcome.REFUSED:
            yield from _refused(op, versions)
        elif op.done:
            yield from _accepted(op, versions)
            yield from _fenced(op, versions)


def _accepted(op: Op, versions: Versions) -> Iterator[Finding]:
    for key, compared in op.compares:
        before = versions.at(key, op.revision - 1)
        if before.token is not None:
            holds = before.revision == compared or (
                not compared and versions.may_differ(key, op.ended_s, absent=True)
            )
        else:
            holds = not compared
        if not holds:
            yield Finding(
                Fault.COMPARE,
                f"{op} was accepted as revision {op.revision} if {key} was at {compared}, but it "
                f"was {before.token or 'absent'} at {before.revision}{_by(before)}",
            )


def _refused(op: Op, versions: Versions) -> Iterator[Finding]:
    for key, compared in op.compares:
        then = versions.at(key, op.revision)
        if (then.revision if then.token is not None else 0) != compared:
            return
        if versions.may_differ(key, op.ended_s) or versions.may_differ(
            key, op.ended_s, absent=True
        ):
            return
    yield Finding(
        Fault.COMPARE,
        f"{op} was refused at revision {op.revision}, but all it compares holds: "
        + ", ".join(f"{key} is at {compared}" for key, compared in op.compares),
    )


def _fenced(op: Op, versions: Versions) -> Iterator[Finding]:
    if op.tenure is None:
        return
    key, since = op.tenure
    holder = versions.at(key, op.revision - 1)
    if holder.revision != since:
        ended = next((v for v in versions.of(key) if v.revision > since), holder)
        what = f"went to {ended.token}" if ended.token else "was deleted"
        yield Finding(
            Fault.FENCE,
            f"{op} was accepted as revision {op.revision} on the strength of {key} held since "
            f"revision {since}, but that {what} at revision {ended.revision}{_by(ended)}",
        )


def _listings(history: History, versions: Versions) -> Iterator[Finding]:
    """A listing shows exactly what was there at its revision."""
    for op in history.ops:
        if op.action is Action.LIST and op.done:
            yield from _listing(str(op), op.scope, op.revision, op.found, op.ended_s, versions)


def _listing(
    who: str,
    prefix: str,
    revision: int,
    cells: tuple[Cell, ...],
    at_s: float,
    versions: Versions,
) -> Iterator[Finding]:
    found = {cell.key: cell for cell in cells}
    for key in {*found, *(key for key in versions.keys if key.startswith(prefix))}:
        cell, then = found.get(key, Cell(key, None)), versions.at(key, revision)
        if cell.token == then.token and (not cell.token or cell.mod_revision == then.revision):
            continue
        if cell.token is None and versions.may_differ(key, at_s, absent=True):
            continue
        lost = then.op is not None and then.op.done and cell.mod_revision < then.revision
        text = (
            f"{who} at revision {revision} found {_shown(cell)} at {key}, but it was then "
            f"{then.token or 'deleted'} (revision {then.revision}{_by(then)})"
        )
        yield Finding(Fault.LOST if lost else Fault.STALE, text)


# Watches


def _watch(watch: Watched, versions: Versions) -> Iterator[Finding]:
    position: float = math.inf  # nothing is owed before the first listing
    for heard in watch.heard:
        if heard.listed:
            name = f"{watch.process}'s listing"
            yield from _listing(
                name, watch.prefix, heard.revision, heard.cells, heard.at_s, versions
            )
        else:
            yield from _batch(watch, heard, position, versions)
        position = heard.revision


def _batch(watch: Watched, heard: Heard, position: float, versions: Versions) -> Iterator[Finding]:
    who = f"{watch.process}'s watch of {watch.prefix}"
    if heard.revision <= position:
        order = f"{who} was told of revision {heard.revision} after revision {position}"
        yield Finding(Fault.WATCH, order)
    doubled = [key for key, n in Counter(cell.key for cell in heard.cells).items() if n > 1]
    if doubled:
        yield Finding(Fault.WATCH, f"{who}: revision {heard.revision} names {doubled} twice")
    told = {cell.key for cell in heard.cells}
    for key, version in versions.between(watch.prefix, position, heard.revision):
        if version.revision < heard.revision or key not in told:
            yield Finding(
                Fault.WATCH,
                f"{who} went from revision {position} to {heard.revision} and was never told "
                f"of {key}={version.token or 'deleted'} at {version.revision}{_by(version)}",
            )


def _converged(watch: Watched, settled: Settled, converge_s: float) -> Iterator[Finding]:
    due_s = max(settled.healed_s, settled.at_s) + converge_s
    reached = next((h.at_s for h in watch.heard if h.revision >= settled.revision), math.inf)
    if reached > due_s:
        after = f"after {reached - settled.healed_s:.1f} s" if reached < math.inf else "never"
        yield Finding(
            Fault.CONVERGE,
            f"{watch.process}'s watch of {watch.prefix} reached revision {settled.revision} "
            f"{after}, {converge_s:g} s are allowed from the heal at {settled.healed_s:.3f} s",
        )


def _shown(cell: Cell) -> str:
    return f"{cell.token} (revision {cell.mod_revision})" if cell.token else "nothing"


def _by(version: Version) -> str:
    if version.op is None:
        return ""
    return f", {version.op}" + (", acknowledged" if version.op.done else "")
