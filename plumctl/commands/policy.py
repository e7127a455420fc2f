"""plumctl policy"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from plumctl import names, options, output
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app("Ask the policies what they would do.")

Row = Mapping[str, Any]

#: Seconds between two questions while following.
FOLLOW_S = 1.0


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
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When, as 2026-11-23T08:00+01:00. Default: now."),
    ] = None,
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
    document = client.trial(source, target, protocol, port or 0, _moment(at))
    rows = document["items"]
    out.rows(rows, _COLUMNS, whole=document, name=_decision)
    if not all(row["allowed"] for row in rows):
        raise typer.Exit(ExitCode.FAILED)


@app.command(
    "log",
    epilog=options.examples(
        "plumctl policy log --domain acme/shop",
        "plumctl policy log --rule open/ingress/ssh --follow",
        "plumctl policy log --node n1 -o json",
    ),
)
def show_log(
    rule: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="POLICY/DIRECTION/RULE, or a part from its end."),
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Only of this node.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="COUNT", min=1, max=10_000, help="At most so many.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Connections that rules with `log` decided, oldest first, of all nodes."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    path = _domain(client, tenant, domain)
    after: Sequence[str] = ()
    while True:
        document = client.policy_log(path, rule or "", limit, after, node)
        if document["items"] or not after:
            empty = "" if follow else "Nothing was logged. A rule logs with log: true."
            rows = document["items"]
            out.rows(rows, _LOG, whole=document, name=lambda row: str(row["rule"]), empty=empty)
        for missing, error in document["errors"].items():
            output.note(f"Nothing from {missing}: {error}")
        if not follow:
            break
        if after == ():
            out = output.Output(format, headers=False)
        after = document["read"]
        time.sleep(FOLLOW_S)
    if document["errors"]:
        raise typer.Exit(ExitCode.UNREACHABLE)


def _domain(client: Client, tenant: str | None, domain: str | None) -> str:
    tenant, domain = names.scope(tenant, domain)
    return names.resolve(client, "domain", domain, tenant) if domain else ""


def _moment(text: str | None) -> str | None:
    """RFC 3339; without a zone it is this machine's time."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except ValueError:
        hint = "write it as 2026-11-23T08:00 or 2026-11-23T08:00+01:00"
        raise PlumError(f"{text!r} is no time", hint, ExitCode.USAGE) from None


def _end(row: Row, which: str) -> str:
    """`web-1:443`, by name where an endpoint has the address."""
    name = str(row[which] or row[f"{which}_address"]).rpartition("/")[2]
    port = row[f"{which}_port"]
    return name if port is None else f"{name}:{port}"


def _protocol(row: Row) -> str:
    kind = row["icmp_type"]
    return str(row["protocol"]) if kind is None else f"{row['protocol']} {kind}/{row['icmp_code']}"


_LOG: Sequence[Column[Row]] = (
    Column("TIME", lambda row: str(row["time"])),
    Column("NODE", lambda row: str(row["node"])),
    Column("DOMAIN", lambda row: str(row["domain"])),
    Column("RULE", lambda row: str(row["rule"])),
    Column("VERDICT", lambda row: str(row["verdict"])),
    Column("PROTOCOL", _protocol),
    Column("FROM", lambda row: _end(row, "source")),
    Column("TO", lambda row: _end(row, "target")),
    Column("LOST", lambda row: str(row["lost"] or ""), right=True),
    Column("ENDPOINT", lambda row: str(row["endpoint"]), wide=True),
    Column("SOURCE", lambda row: str(row["source_address"]), wide=True),
    Column("TARGET", lambda row: str(row["target_address"]), wide=True),
)


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
