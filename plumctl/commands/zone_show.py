"""plumctl zone show"""

from __future__ import annotations

from collections.abc import Sequence

from plumctl import options, output
from plumctl.answers import Document
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

_COLUMNS: Sequence[Column[Document]] = (
    Column("NODE", lambda node: str(node["name"])),
    Column("VTEP", lambda node: str(node["vtep"] or "-")),
    Column("ROLES", lambda node: ",".join(node["roles"]) or "-"),
    Column("CERTIFICATE UNTIL", lambda node: str(node["certificate_expires"] or "none")),
)


@app.command(epilog=options.examples("plumctl zone show", "plumctl zone show -o jsonpath=.id"))
def show(
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Which zone this node is in, its nodes and directors, and how long certificates last."""
    out = output.Output(format, headers=not no_headers)
    answer = connect(socket).zone()
    nodes = answer["nodes"]
    if out.is_table:
        directors = [node["name"] for node in nodes if "director" in node["roles"]]
        output.details(
            [
                ("Zone", str(answer["id"])),
                ("Created", str(answer["created"])),
                ("Store", str(answer["store"])),
                ("Asked", str(answer["node"])),
                ("Directors", ", ".join(directors) or "none"),
                ("Authority", str(answer["authority_fingerprint"])),
                ("Good until", str(answer["authority_expires"])),
                *_changing(answer.get("authority_change")),
            ]
        )
    out.rows(nodes, _COLUMNS, whole=answer, name=lambda node: str(node["name"]))


def _changing(change: Document | None) -> list[tuple[str, str]]:
    """How far another authority is on its way."""
    if change is None or (change["phase"] == "settled" and not change["waiting_for"]):
        return []
    waiting = ", ".join(change["waiting_for"]) or "nobody"
    return [
        ("Changes to", str(change["authority_fingerprint"])),
        ("Phase", f"{change['phase']} since {change['since']}, waits for {waiting}"),
    ]
