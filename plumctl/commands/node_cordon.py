"""plumctl node cordon, plumctl node uncordon"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import applying, options, output
from plumctl.locate import connect

app = options.new_app()

Node = Annotated[str, typer.Argument(metavar="NODE", help="Name of the node.")]


@app.command(epilog=options.examples("plumctl node cordon n3"))
def cordon(
    node: Node,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Place no new endpoints on a node. Those that are there stay and work."""
    out = output.Output(format, headers=not no_headers)
    applying.emit(out, connect(socket).cordon(node, cordoned=True))
    output.suggest(f"plumctl node drain {node}")


@app.command(epilog=options.examples("plumctl node uncordon n3"))
def uncordon(
    node: Node,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Let endpoints be placed on a node again."""
    out = output.Output(format, headers=not no_headers)
    applying.emit(out, connect(socket).cordon(node, cordoned=False))
