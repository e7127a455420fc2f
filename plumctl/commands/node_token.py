"""plumctl node token"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import duration, enrolling, options, output
from plumctl.commands.zone_init import address
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl node token n4 --vtep 192.0.2.4",
        "plumctl node token n2 --role director --role edge --ttl 10m",
    )
)
def token(
    node: Annotated[str, typer.Argument(metavar="NAME", help="What the machine will be called.")],
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="director, edge or gateway; may be repeated."),
    ] = None,
    vtep: Annotated[str | None, enrolling.Vtep] = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long it is good: 10m, 12h, 7d.")
    ] = "1h",
    again: Annotated[
        bool, typer.Option("--again", help="For a node of the zone that lost its certificate.")
    ] = False,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Make a join token for a machine. Good once, and this is the only time it is shown."""
    out = output.Output(format)
    body = {
        "node": node,
        "roles": role or ["edge"],
        "vtep": address(vtep) if vtep else None,
        "life_s": duration.seconds(ttl),
        "again": again,
    }
    made = connect(socket).invite(body)
    if out.is_table:
        output.line(str(made["token"]))
    else:
        out.rows([made], (), whole=made, name=lambda found: str(found["token"]))
    output.note(f"For {node}, until {made['expires']}. It is not shown again.")
    output.suggest("on the machine: plumctl node join - , and give it the token on stdin")
