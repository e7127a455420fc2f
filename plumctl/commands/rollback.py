"""plumctl rollback"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import applying, options, output
from plumctl.locate import connect

app = options.new_app()


@app.command(epilog=options.examples("plumctl history", "plumctl rollback 17 --wait"))
def rollback(
    seq: Annotated[int, typer.Argument(metavar="SEQ", min=1, help="Number in the history.")],
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Go back to how it was before a revision. It is itself a new revision."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    applied = client.rollback(seq)
    applying.emit(out, applied)
    if wait and applying.changed(applied):
        applying.wait(client, applied.revision, timeout)
    output.suggest("plumctl history")
