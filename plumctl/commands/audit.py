"""plumctl audit"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from plumctl import duration, options, output
from plumctl.access_answers import AuditLine
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

_SHOWN_OBJECTS = 3

_COLUMNS: Sequence[Column[AuditLine]] = (
    Column("TIME", lambda line: line.time),
    Column("WHO", lambda line: line.who),
    Column("OUTCOME", lambda line: line.outcome),
    Column("OPERATION", lambda line: line.operation or line.request),
    Column("OBJECTS", lambda line: _objects(line)),
    Column("NODE", lambda line: line.node),
    Column("FROM", lambda line: line.source, wide=True),
    Column("FOR", lambda line: line.on_behalf, wide=True),
    Column("ROLE", lambda line: line.role, wide=True),
    Column("TOKEN", lambda line: line.token, wide=True),
    Column("SUMMARY", lambda line: line.summary, wide=True),
)


@app.command(
    epilog=options.examples(
        "plumctl audit --since 2h",
        "plumctl audit --outcome refused -o wide",
        "plumctl audit --object acme/shop --since 2026-11-23T08:00Z",
        "plumctl audit --user ann -o json",
    )
)
def audit(
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Not older: 90m, 2h, 7d, or a date and time."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Who asked, or for whom.")
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", "-t", metavar="TENANT", help="About it, or by its operators."),
    ] = None,
    object_: Annotated[
        str | None,
        typer.Option("--object", metavar="PATH", help="About this, or something below it."),
    ] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="OUTCOME", help="done, refused or failed.")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Only of this node's log.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="At most so many.")
    ] = 1000,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Who did, tried or looked at what, newest first, from the logs of all nodes."""
    out = output.Output(format, headers=not no_headers)
    found = connect(socket).audit(
        node,
        since=_moment(since),
        user=user,
        tenant=tenant,
        object=object_,
        outcome=outcome,
        limit=str(limit),
    )
    out.rows(
        found.lines,
        _COLUMNS,
        whole=found.document,
        name=lambda line: f"{line.node} {line.time}",
        empty="Nothing like that is in the log.",
    )
    for missing, error in found.errors.items():
        output.note(f"Nothing from {missing}: {error}")
    if found.unreadable:
        output.note(f"{found.unreadable} lines of the logs could not be read.")
    if found.more:
        output.note(f"There are older ones: these are the newest {len(found.lines)} (--limit).")
    if found.errors:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _moment(text: str | None) -> str | None:
    """RFC 3339 for `2h` (ago) or a date; without a zone it is this machine's time."""
    if text is None:
        return None
    if duration.is_one(text):
        return (datetime.now(UTC) - timedelta(seconds=duration.seconds(text))).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        raise PlumError(
            f"{text!r} is no time",
            "write how long ago (90m, 2h, 7d) or when (2026-11-23, 2026-11-23T08:00Z)",
            ExitCode.USAGE,
        ) from None


def _objects(line: AuditLine) -> str:
    shown = ", ".join(line.objects[:_SHOWN_OBJECTS])
    rest = len(line.objects) - _SHOWN_OBJECTS
    return f"{shown} and {rest} more" if rest > 0 else shown
