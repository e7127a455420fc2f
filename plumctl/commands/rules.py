"""plumctl rules"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plumctl import names, options, output
from plumctl.commands.drops import emit_counters
from plumctl.locate import connect
from plumctl.output import Column, number

app = options.new_app()

Row = Mapping[str, Any]

_COLUMNS: Sequence[Column[Row]] = (
    Column("DOMAIN", lambda row: str(row["domain"])),
    Column("POLICY", lambda row: str(row.get("policy") or "")),
    Column("DIRECTION", lambda row: str(row.get("direction") or "")),
    Column("RULE", lambda row: str(row["rule"])),
    Column("ACTION", lambda row: str(row.get("action") or "")),
    Column("HITS", lambda row: number(row["hits"]), right=True),
)


@app.command(
    epilog=options.examples(
        "plumctl rules", "plumctl rules --domain acme/shop", "plumctl rules -d shop -o json"
    )
)
def rules(
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """How many connections each policy rule decided, over all nodes; also those with none."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    tenant, domain = names.scope(tenant, domain)
    counters = client.counters()
    summed: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in counters.rules:
        owner, _, name = str(row["domain"]).partition("/")
        if (tenant and owner != tenant) or (domain and name != domain):
            continue
        key = tuple(str(row.get(part)) for part in ("domain", "policy", "direction", "rule"))
        known = summed.setdefault(
            key, {**{part: row[part] for part in row if part != "node"}, "hits": 0}
        )
        known["hits"] += row["hits"]
    emit_counters(out, list(summed.values()), _COLUMNS, counters, "rule", "No rule.")
