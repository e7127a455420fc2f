"""plumctl get"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import names, options, output
from plumctl.answers import Counters, View
from plumctl.client import Client
from plumctl.columns import columns
from plumctl.errors import PlumError
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl get endpoint",
        "plumctl get ep --tenant acme -o wide     # with MAC, counters and reason",
        "plumctl get ep web-1 -o jsonpath=.allocated.addresses[0]",
        "plumctl get domain -o name",
        "plumctl get node n1 -o yaml",
    )
)
def get(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="endpoint (ep), domain (dom), tenant, node (no) or adminpolicy."
        ),
    ],
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Full path, or a short name if only one has it."),
    ] = None,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """List objects, or show one."""
    out = output.Output(format, headers=not no_headers)
    found = names.kind_of(kind)
    client = connect(socket)
    tenant, domain = names.scope(tenant, domain)
    if name:
        views = tuple(one(client, found, item, tenant, domain) for item in name)
        whole: object = (
            views[0].document if len(views) == 1 else {"items": [view.document for view in views]}
        )
    else:
        listing = client.list(found, tenant, domain)
        views, whole = listing.items, listing.document
    counters = _counters(client, views) if out.format == "wide" and found == "endpoint" else None
    out.rows(
        views,
        columns(found, counters),
        whole=whole,
        name=lambda view: view.path,
        empty=f"No {found}{'' if not (tenant or domain) else ' there'}. "
        "Make some: plumctl apply -f FILE",
    )
    wrong = next((view for view in views if view.state == "error"), None)
    if out.is_table and wrong:
        output.suggest(f"plumctl describe {found} {wrong.path}")


def one(
    client: Client, kind: str, name: str, tenant: str | None = None, domain: str | None = None
) -> View:
    """The object a person named; not found names what is near."""
    path = names.resolve(client, kind, name, tenant, domain)
    try:
        return client.get(kind, path)
    except PlumError as error:
        raise names.explain_missing(client, kind, path, error) from error


def _counters(client: Client, views: tuple[View, ...]) -> Counters:
    counters = client.counters()
    concerned = {str(view.spec.get("node")) for view in views}
    for node, error in counters.unreachable.items():
        if node in concerned:
            output.note(f"No counters from {node}: {error}")
    return counters
