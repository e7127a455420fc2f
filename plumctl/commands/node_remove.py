"""plumctl node remove"""

from __future__ import annotations

from plumctl import applying, asking, options, output
from plumctl.commands.node_cordon import Node
from plumctl.locate import connect

app = options.new_app()


@app.command(epilog=options.examples("plumctl node drain n3", "plumctl node remove n3"))
def remove(
    node: Node,
    yes: options.Yes = False,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Take a node out of the zone. Refused while endpoints are on it.

    From then on its certificate is void and no node takes its packets. To have it back it
    must join again.
    """
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    asking.sure(f"{node} leaves the zone; to come back it must join again.", yes=yes)
    applying.emit(out, client.remove_node(node))
    output.note(f"On {node} itself: systemctl disable --now plumd, then plumd --purge.")
