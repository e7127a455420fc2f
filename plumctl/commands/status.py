"""plumctl status"""

from __future__ import annotations

from collections.abc import Sequence

from plumctl import options, output
from plumctl.answers import NodeStatus
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()


@app.command(epilog=options.examples("plumctl status", "plumctl status -o jsonpath=.revision"))
def status(
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """How this node fares: what is not programmed and why, and what plumd repaired."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    answer = client.status()
    if not out.is_table:
        out.rows([answer], _COLUMNS, whole=answer.document, name=lambda node: node.name)
        return
    output.details(
        [
            ("Node", answer.name),
            ("Version", answer.version),
            ("Ready", "yes" if answer.ready else f"no: {answer.reason}"),
            ("Revision", str(answer.revision)),
            ("Exceptions", str(len(answer.exceptions))),
            ("Repairs", str(len(answer.repairs))),
            ("Daemon", client.address),
        ]
    )
    for item in answer.exceptions:
        text = f"  {item.state} {item.kind} {item.path}: {item.reason}"
        output.line(text)
    for repair in answer.repairs:
        when, what = str(repair.get("time", "")), str(repair.get("what", ""))
        output.line(f"  repaired {when} {what}")
    if answer.exceptions:
        first = answer.exceptions[0]
        output.suggest(f"plumctl describe {first.kind} {first.path}")


_COLUMNS: Sequence[Column[NodeStatus]] = (Column("NODE", lambda node: node.name),)
