"""plumctl diff"""

from __future__ import annotations

import typer

from plumctl import applying, options, output
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl diff -f shop.yaml",
        "plumctl diff -f manifests/ || plumctl apply -f manifests/",
    )
)
def diff(
    file: options.Files,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Show what apply would change. Exits 0 when nothing, 1 when something, above 1 on errors."""
    from plumctl import manifests

    out = output.Output(format)
    try:
        read = manifests.read(file)
        try:
            applied = connect(socket).apply(read.documents, dry_run=True)
        except PlumError as error:
            raise read.place(error) from error
    except PlumError as error:
        if error.exit_code == ExitCode.FAILED:  # 1 means that it differs
            error.exit_code = int(ExitCode.USAGE)
        raise
    if out.format == "table":
        applying.emit_diff(applied)
    else:
        applying.emit(out, applied, dry_run=True)
    if applying.changed(applied):
        output.suggest(f"plumctl apply -f {file[0]}")
        raise typer.Exit(ExitCode.FAILED)
