"""plumctl drops"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from plumctl import names, options, output
from plumctl.answers import Counters
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column, number

app = options.new_app()

_COLUMNS: Sequence[Column[Mapping[str, Any]]] = (
    Column("REASON", lambda row: str(row["reason"])),
    Column("TEXT", lambda row: str(row.get("text") or "")),
    Column("ENDPOINT", lambda row: str(row.get("endpoint") or "")),
    Column("NODE", lambda row: str(row["node"])),
    Column("PACKETS", lambda row: number(row["packets"]), right=True),
    Column("BYTES", lambda row: number(row.get("bytes")), right=True),
)


@app.command(
    epilog=options.examples(
        "plumctl drops",
        "plumctl drops --endpoint acme/shop/web-1",
        "plumctl drops --node n2 -o json",
    )
)
def drops(
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", "-e", metavar="ENDPOINT", help="Only of this one.")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Only of this node.")
    ] = None,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Why packets were dropped, and how many, most first. Reasons: bpf/PIPELINE.md."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    tenant, domain = names.scope(tenant, domain)
    path = names.resolve(client, "endpoint", endpoint, tenant, domain) if endpoint else None
    counters = client.counters(node)
    rows = [
        row
        for row in counters.drops
        if row["packets"] and _concerned(str(row.get("endpoint") or ""), path, tenant, domain)
    ]
    rows.sort(key=lambda row: (-int(row["packets"]), str(row["reason"])))
    emit_counters(out, rows, _COLUMNS, counters, "reason", "Nothing was dropped.")


def emit_counters(
    out: output.Output,
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Column[Mapping[str, Any]]],
    counters: Counters,
    name: str,
    empty: str,
) -> None:
    """Counter rows; nodes that did not answer are named, and fail the command at the end."""
    out.rows(
        rows,
        shown,
        whole={"items": list(rows), "unreachable": dict(counters.unreachable)},
        name=lambda row: str(row[name]),
        empty="" if counters.unreachable else empty,
    )
    if counters.unreachable:
        said = "; ".join(f"{node}: {error}" for node, error in counters.unreachable.items())
        raise PlumError(
            f"these counters are not complete: {said}",
            "look at plumd on that node; --node NODE asks one node only",
            ExitCode.UNREACHABLE,
        )


def _concerned(endpoint: str, path: str | None, tenant: str | None, domain: str | None) -> bool:
    if path:
        return endpoint == path
    owner, _, rest = endpoint.partition("/")
    return (not tenant or owner == tenant) and (not domain or rest.split("/")[0] == domain)
