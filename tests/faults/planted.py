"""Histories with something wrong in them, told in a few words; see test_checker.py."""

from __future__ import annotations

import math

from tests.faults.history import Action, Cell, Heard, History, Op, Outcome, Settled, Watched

KEY, LOCK = "/r/a", "/r/lock"


def wrote(
    token: str | None,
    revision: int,
    began_s: float,
    *,
    key: str = KEY,
    compare: int | None = None,
    by: str = "p1",
    outcome: Outcome = Outcome.OK,
    leased: bool = False,
    tenure: int | None = None,
) -> Op:
    """A commit that took a tenth of a second; `tenure`: trusting to hold LOCK since then."""
    return Op(
        by,
        Action.COMMIT,
        began_s,
        math.inf if outcome is Outcome.UNKNOWN else began_s + 0.1,
        outcome,
        0 if outcome is Outcome.UNKNOWN else revision,
        compares=() if compare is None else ((key, compare),),
        writes=(Cell(key, token),),
        leased=leased,
        tenure=None if tenure is None else (LOCK, tenure),
    )


def got(token: str | None, mod_revision: int, began_s: float, key: str = KEY) -> Op:
    found = (Cell(key, token, mod_revision),) if token else ()
    return Op("p2", Action.GET, began_s, began_s + 0.1, Outcome.OK, scope=key, found=found)


def listed(revision: int, began_s: float, *cells: tuple[str, str, int]) -> Op:
    found = tuple(Cell(*cell) for cell in cells)
    return Op(
        "p3", Action.LIST, began_s, began_s + 0.1, Outcome.OK, revision, scope="/r/", found=found
    )


def watched(*heard: Heard) -> Watched:
    return Watched("w1", "/r/", heard)


def all_of(at_s: float, revision: int, *cells: tuple[str, str, int]) -> Heard:
    return Heard(at_s, revision, tuple(Cell(*cell) for cell in cells), listed=True)


def batch(at_s: float, revision: int, *cells: tuple[str, str | None]) -> Heard:
    return Heard(at_s, revision, tuple(Cell(key, token, revision) for key, token in cells))


def history(*parts: Op | Watched | Settled) -> History:
    found = History()
    for part in parts:
        if isinstance(part, Op):
            found.ops.append(part)
        elif isinstance(part, Watched):
            found.watches.append(part)
        else:
            found.settled.append(part)
    return found
