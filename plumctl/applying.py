"""What apply, delete, rollback and the endpoint commands have in common: say it, wait for it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from plumctl.answers import Applied, Change, Waited
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.output import Column, Output, line, note
from plumctl.progress import working

#: Seconds one request of a wait lasts, so that progress shows and Ctrl-C is prompt.
_STEP_S = 2.0

_COLUMNS: Sequence[Column[Change]] = (
    Column("ACTION", lambda change: change.action),
    Column("KIND", lambda change: change.kind),
    Column("PATH", lambda change: change.path),
)


def changed(applied: Applied) -> list[Change]:
    return [change for change in applied.changes if change.action != "unchanged"]


def emit(out: Output, applied: Applied, *, dry_run: bool = False) -> None:
    """The changes as a table or the answer as data."""
    changes = changed(applied)
    out.rows(
        changes,
        _COLUMNS,
        whole=applied.document,
        name=lambda change: f"{change.kind}/{change.path}",
        empty="Nothing to change.",
    )
    if out.is_table and changes:
        done = "would change" if dry_run else "changed"
        kept = f"; history {applied.history}" if applied.history and not dry_run else ""
        note(f"{len(changes)} {done}{kept}.")


def emit_diff(applied: Applied) -> None:
    """Every change with its fields, as lines."""
    for change in changed(applied):
        line(f"{change.action} {change.kind} {change.path}")
        for text in change.diff:
            line("  " + text)


def wait(client: Client, revision: int, timeout_s: float) -> None:
    """Until every node concerned has programmed the revision.

    Raises PlumError that names what is in error (at once) or still missing at the end.
    """
    deadline = time.monotonic() + timeout_s
    with working("waiting for the nodes") as progress:
        while True:
            left_s = deadline - time.monotonic()
            answer = client.wait(revision, max(0.0, min(_STEP_S, left_s)))
            if answer.done:
                return
            wrong = [item for item in answer.missing if item.state == "error"]
            if wrong:
                raise _not_programmed(answer, "was refused by a node", ExitCode.FAILED)
            if time.monotonic() >= deadline:
                raise _not_programmed(
                    answer, f"is not programmed after {timeout_s:g} s", ExitCode.TIMED_OUT
                )
            nodes = sorted({item.node for item in answer.missing})
            progress.say(f"waiting for {', '.join(nodes) or 'the nodes'}")


def _not_programmed(answer: Waited, what: str, code: ExitCode) -> PlumError:
    return PlumError(
        f"it is applied, but {what}",
        "look at the node's log and at `plumctl status` there; plumd goes on trying",
        code,
        tuple(
            Problem(f"{item.node}: {item.kind} {item.path}".rstrip(": "), item.reason or item.state)
            for item in answer.missing
        ),
    )
