"""plumctl rollback"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import applying, options, output
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl history", "plumctl rollback 17 --dry-run", "plumctl rollback 17 --wait"
    )
)
def rollback(
    seq: Annotated[
        int, typer.Argument(metavar="SEQ", min=0, help="Number in the history; 0: empty.")
    ],
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    dry_run: options.DryRun = False,
    comment: options.Comment = "",
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Go back to how it was right after a revision. That is itself a new revision."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    applied = client.rollback(seq, dry_run=dry_run, comment=comment)
    applying.emit(out, applied, dry_run=dry_run)
    if wait and not dry_run and applying.changed(applied):
        applying.wait(client, applied.revision, timeout)
    output.suggest("plumctl history")
