"""plumctl describe"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from plumctl import names, options, output
from plumctl.answers import Counters, View
from plumctl.client import Client
from plumctl.columns import addresses, mac, used
from plumctl.commands.get import one
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl describe endpoint acme/shop/web-1",
        "plumctl describe ep web-1",
        "plumctl describe domain acme/shop",
    )
)
def describe(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="endpoint (ep), domain (dom), tenant, node (no), external (ext) or adminpolicy.",
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Full path or short name.")],
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Everything about one object: what was asked, allocated and counted, and how it fares."""
    out = output.Output(format)
    client = connect(socket)
    view = one(client, names.kind_of(kind), name, *names.scope(tenant, domain))
    if not out.is_table:
        out.rows([view], (), whole=view.document, name=lambda view: view.path)
        return
    _head(view)
    if view.kind == "endpoint":
        _endpoint_counters(client, view)
    _health(view)
    if view.used:
        output.line("Used, of what the quota allows:")
        output.details([(name, used(view, name)) for name in view.used], 2)
    output.line("Spec:")
    output.write_yaml([view.spec], indent=2)
    rest = {key: value for key, value in view.allocated.items() if key not in ("mac", "addresses")}
    if rest:
        output.line("Allocated:")
        output.write_yaml([rest], indent=2)
    if view.kind == "endpoint":
        output.suggest(f"plumctl drops --endpoint {view.path}")
    elif view.kind == "domain":
        output.suggest(f"plumctl rules --domain {view.path}")


def _head(view: View) -> None:
    pairs = [(view.kind.capitalize(), view.path), ("State", view.state)]
    if view.reason:
        pairs.append(("Reason", view.reason))
    pairs.append(("Revision", str(view.revision)))
    if view.kind == "endpoint":
        pairs += [
            ("Node", str(view.spec.get("node") or "")),
            ("Bridge", str(view.spec.get("bridge") or "")),
            ("MAC", mac(view)),
            ("Addresses", addresses(view)),
        ]
        public = view.document.get("public") or {}
        pairs += [("Public", f"{address} for {own}") for address, own in public.items()]
    output.details(pairs)


def _health(view: View) -> None:
    """What the health checks of a domain's load balancers say."""
    for balancer, verdicts in sorted((view.document.get("health") or {}).items()):
        output.line(f"Health of {balancer}'s backends:")
        pairs = []
        for name, verdict in sorted(verdicts.items()):
            state = "up" if verdict["up"] else "down"
            why = f": {verdict['why']}" if verdict["why"] else ""
            pairs.append((name, f"{state} since {verdict['since']}{why}"))
        output.details(pairs or [("-", "no backend was checked yet")], 2)


def _endpoint_counters(client: Client, view: View) -> None:
    counters = client.counters(str(view.spec["node"]))
    for node, error in counters.unreachable.items():
        output.note(f"No counters from {node}: {error}")
    mine = _of(counters, view.path)
    if mine:
        output.line("Counted:")
        received = f"{mine.get('rx_packets', 0)} packets, {mine.get('rx_bytes', 0)} B"
        sent = f"{mine.get('tx_packets', 0)} packets, {mine.get('tx_bytes', 0)} B"
        output.details([("Received", received), ("Sent", sent)], 2)
    drops = [row for row in counters.drops if row.get("endpoint") == view.path]
    if drops:
        output.line("Dropped:")
        output.details([(str(row["reason"]), f"{row['packets']} packets") for row in drops], 2)


def _of(counters: Counters, path: str) -> Mapping[str, Any]:
    return next((row for row in counters.endpoints if row.get("path") == path), {})
