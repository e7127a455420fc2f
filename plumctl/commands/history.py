"""plumctl history"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from plumctl import options, output
from plumctl.answers import Revision
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

_COLUMNS: Sequence[Column[Revision]] = (
    Column("SEQ", lambda entry: str(entry.seq), right=True),
    Column("TIME", lambda entry: entry.time),
    Column("WHO", lambda entry: entry.who),
    Column("VERB", lambda entry: entry.verb),
    Column("CHANGES", lambda entry: _summary(entry)),
    Column("COMMENT", lambda entry: entry.comment),
    Column("REVISION", lambda entry: str(entry.revision), wide=True, right=True),
)


@app.command(
    epilog=options.examples("plumctl history", "plumctl history 17", "plumctl history 17 -o yaml")
)
def history(
    seq: Annotated[
        int | None, typer.Argument(metavar="SEQ", min=1, help="Show this one with its changes.")
    ] = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """List applied revisions, or show one: who, when, and what changed."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    if seq is None:
        entries = client.history()
        out.rows(
            entries,
            _COLUMNS,
            whole={"items": [entry.document for entry in entries]},
            name=lambda entry: str(entry.seq),
            empty="Nothing was applied yet.",
        )
        return
    entry = client.revision(seq)
    if not out.is_table:
        out.rows([entry], _COLUMNS, whole=entry.document, name=lambda entry: str(entry.seq))
        return
    output.details(
        [
            ("Seq", str(entry.seq)),
            ("Time", entry.time),
            ("Who", entry.who),
            ("Verb", entry.verb),
            ("Comment", entry.comment),
            ("Revision", str(entry.revision)),
            *([("Unconfirmed", f"goes back at {entry.confirm_by}")] if entry.confirm_by else []),
        ]
    )
    for change in entry.changes:
        output.line(f"{change.action} {change.kind} {change.path}")
        for text in change.diff:
            output.line("  " + text)
    output.suggest(f"plumctl rollback {seq - 1}     # undoes it and what came after")


def _summary(entry: Revision) -> str:
    count: dict[str, int] = {}
    for change in entry.changes:
        count[change.action] = count.get(change.action, 0) + 1
    return ", ".join(f"{number} {action}" for action, number in sorted(count.items()))
