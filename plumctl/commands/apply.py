"""plumctl apply"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import applying, options, output
from plumctl.errors import PlumError
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl apply -f shop.yaml --wait",
        "plumctl apply -f manifests/ --dry-run",
        "plumctl apply -f shop.yaml --confirm 60     # goes back unless: plumctl confirm SEQ",
        "sed s/acme/zeta/ shop.yaml | plumctl apply -f -",
    )
)
def apply(
    file: options.Files,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    confirm: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Go back by itself unless confirmed in this time."
        ),
    ] = None,
    dry_run: options.DryRun = False,
    comment: options.Comment = "",
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Create and change objects from manifests. All of them, or none when one is refused."""
    from plumctl import manifests

    out = output.Output(format, headers=not no_headers)
    read = manifests.read(file)
    client = connect(socket)
    try:
        applied = client.apply(read.documents, dry_run=dry_run, confirm_s=confirm, comment=comment)
    except PlumError as error:
        raise read.place(error) from error
    applying.emit(out, applied, dry_run=dry_run)
    if dry_run or not applying.changed(applied):
        return
    if confirm:
        output.note(f"Goes back in {confirm} s unless you run: plumctl confirm {applied.history}")
    if wait:
        applying.wait(client, applied.revision, timeout)
        output.suggest("plumctl get endpoint -o wide")
    elif not confirm:
        output.suggest("plumctl status")
