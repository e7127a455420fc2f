"""plumctl delete"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import applying, names, options, output
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl delete endpoint acme/shop/web-1 --wait",
        "plumctl delete endpoint web-1 web-2 --tenant acme --domain shop",
        "plumctl delete -f shop.yaml --dry-run",
    )
)
def delete(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="Kind of object.")] = None,
    name: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Full path or short name.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("-f", "--file", metavar="FILE", help="Delete what these manifests name."),
    ] = None,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    dry_run: options.DryRun = False,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Delete objects: all that are named, or none when one is refused."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    if file and kind:
        raise PlumError(
            "give KIND NAME or -f FILE, not both", "plumctl delete --help", ExitCode.USAGE
        )
    if file:
        from plumctl import manifests

        refs = manifests.read(file).refs
    elif kind and name:
        found = names.kind_of(kind)
        refs = [(found, names.resolve(client, found, item, tenant, domain)) for item in name]
    else:
        raise PlumError(
            "say what to delete",
            "plumctl delete KIND NAME, or plumctl delete -f FILE",
            ExitCode.USAGE,
        )
    try:
        applied = client.delete(refs, dry_run=dry_run)
    except PlumError as error:
        if len(refs) == 1:
            raise names.explain_missing(client, *refs[0], error) from error
        raise
    applying.emit(out, applied, dry_run=dry_run)
    if wait and not dry_run and applying.changed(applied):
        applying.wait(client, applied.revision, timeout)
    if applied.history and not dry_run:
        output.suggest(f"plumctl rollback {applied.history - 1}     # brings it back")
