"""plumctl policy"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from plumctl import names, options, output
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app("Ask the policies what they would do.")

Row = Mapping[str, Any]


@app.callback()
def _group() -> None:
    """Keeps `test` a command of its own as long as it is the only one."""


@app.command(
    "test",
    epilog=options.examples(
        "plumctl policy test --from acme/shop/web-1 --to acme/shop/app-1 --port 8080",
        "plumctl policy test -d acme/shop --from web-1 --to 10.0.3.10 --port 53 --protocol udp",
        "plumctl policy test -d acme/shop --from web-1 --to db-1 --protocol ping -o json",
    ),
)
def try_policy(
    source: Annotated[str, typer.Option("--from", metavar="ENDPOINT", help="Who connects.")],
    target: Annotated[
        str, typer.Option("--to", metavar="ENDPOINT|ADDRESS", help="To whom, of the same domain.")
    ],
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Destination port.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="PROTOCOL", help="tcp, udp, sctp or ping.")
    ] = "tcp",
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Which rule decides this connection? From the model; no packet is sent.

    Exits with 0 if every address of the target can be reached, with 1 if one cannot.
    """
    out = output.Output(format, headers=not no_headers)
    _check(protocol, port)
    client = connect(socket)
    tenant, domain = names.scope(tenant, domain)
    source = names.resolve(client, "endpoint", source, tenant, domain)
    target = _target(client, target, *source.split("/")[:2])
    document = client.trial(source, target, protocol, port or 0)
    rows = document["items"]
    out.rows(rows, _COLUMNS, whole=document, name=_decision)
    if not all(row["allowed"] for row in rows):
        raise typer.Exit(ExitCode.FAILED)


def _check(protocol: str, port: int | None) -> None:
    if protocol not in ("tcp", "udp", "sctp", "ping"):
        raise PlumError(
            f"unknown protocol {protocol!r}", "use tcp, udp, sctp or ping", ExitCode.USAGE
        )
    if (port is None) != (protocol == "ping"):
        message = "a ping has no port" if port is not None else f"{protocol} needs a port"
        hint = "leave --port out" if port is not None else "add --port PORT"
        raise PlumError(message, hint, ExitCode.USAGE)


def _target(client: Client, text: str, tenant: str, domain: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        return names.resolve(client, "endpoint", text, tenant, domain)


def _decision(row: Row) -> str:
    """The rule that had the last word; without one, what stopped it."""
    if row["drop"] and not str(row["drop"]).startswith("POLICY_"):
        return str(row["drop"])
    return str(row["rules"][-1]["name"]) if row["rules"] else str(row["outcome"])


def _where(row: Row) -> str:
    return str(row["stages"][-1]["node"]) if row["stages"] else ""


_COLUMNS: Sequence[Column[Row]] = (
    Column("FROM", lambda row: str(row["source_address"] or "")),
    Column("TO", lambda row: str(row["target_address"])),
    Column("VERDICT", lambda row: "allowed" if row["allowed"] else "refused"),
    Column("BY", _decision),
    Column("NODE", _where),
    Column("REACHES", lambda row: str(row["receiver"] or "")),
    Column("STAGES", lambda row: " ".join(step["stage"] for step in row["stages"]), wide=True),
    Column("REASON", lambda row: str(row["reason"])),
)
