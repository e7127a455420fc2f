"""plumctl mesh"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from plumctl import options, output
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

Row = Mapping[str, Any]


@app.command(
    epilog=options.examples("plumctl mesh", "plumctl mesh --from n1", "plumctl mesh -o json")
)
def mesh(
    source: Annotated[
        str | None, typer.Option("--from", metavar="NODE", help="Only as this node sees it.")
    ] = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """The underlay between all nodes: round-trip times and loss of the last 60 probes.

    Every node asks every other VTEP, and the datapath there answers, also while its plumd
    is down. Rows ask, columns answer. Exits with 1 when somebody cannot be reached.
    """
    out = output.Output(format, headers=not no_headers)
    document = connect(socket).mesh(source)
    answers = document["nodes"]
    if format == "wide":
        out.rows(_pairs(answers), _PAIR, whole=document, name=lambda row: str(row["from"]))
    else:
        shown = sorted({peer for answer in answers.values() for peer in answer["peers"]})
        rows = [{"from": node, **answer["peers"]} for node, answer in sorted(answers.items())]
        out.rows(rows, _matrix(shown), whole=document, name=lambda row: str(row["from"]))
    _complain(answers)


def _matrix(peers: Sequence[str]) -> list[Column[Row]]:
    first: Column[Row] = Column("FROM", lambda row: str(row["from"]))
    return [first, *(_column(peer) for peer in peers)]


def _column(peer: str) -> Column[Row]:
    return Column(peer, lambda row: _cell(row.get(peer)), right=True)


def _cell(state: Row | None) -> str:
    """`0.21 ms`, with the loss where there is any; `lost` for what cannot be reached."""
    if state is None:
        return ""
    if not state["reachable"]:
        return "lost"
    if state["median_ms"] is None:
        return "?"
    loss = f" ({state['loss_percent']:g} %)" if state["loss_percent"] else ""
    return f"{state['median_ms']:.2f} ms{loss}"


def _pairs(answers: Mapping[str, Any]) -> list[Row]:
    return [
        {"from": node, "to": peer, **state}
        for node, answer in sorted(answers.items())
        for peer, state in sorted(answer["peers"].items())
    ]


def _time(key: str) -> Column[Row]:
    header = key.removesuffix("_ms").upper()
    return Column(header, lambda row: f"{row[key]:.3f}" if row[key] is not None else "", right=True)


_PAIR: Sequence[Column[Row]] = (
    Column("FROM", lambda row: str(row["from"])),
    Column("TO", lambda row: str(row["to"])),
    Column("REACHABLE", lambda row: "yes" if row["reachable"] else "no"),
    _time("median_ms"),
    _time("p99_ms"),
    Column("LOST", lambda row: f"{row['loss_percent']:g} %", right=True),
    Column("PROBES", lambda row: str(row["sent"]), right=True),
)


def _complain(answers: Mapping[str, Any]) -> None:
    silent = {node: str(a["error"]) for node, a in answers.items() if a.get("error")}
    if silent:
        said = "; ".join(f"{node}: {error}" for node, error in silent.items())
        hint = "look at plumd on that node: plumctl get node"
        raise PlumError(f"not every node says what it sees: {said}", hint, ExitCode.UNREACHABLE)
    lost = [
        f"{node} to {peer}"
        for node, answer in sorted(answers.items())
        for peer, state in sorted(answer["peers"].items())
        if not state["reachable"]
    ]
    if lost:
        raise PlumError(
            f"no way over the underlay: {', '.join(lost)}",
            "check cables, routes and firewalls (UDP 4789) between these VTEPs",
        )
