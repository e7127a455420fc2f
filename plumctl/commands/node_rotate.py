"""plumctl node rotate"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import options, output
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.locate import connect

app = options.new_app()


@app.command(epilog=options.examples("plumctl node rotate n2", "plumctl node rotate --all"))
def rotate(
    node: Annotated[
        list[str] | None, typer.Argument(metavar="NODE", help="Names of nodes.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every node, one after the other.")] = False,
    socket: options.Socket = None,
) -> None:
    """Give nodes a new key and certificate now. Open connections and packets do not notice.

    Nodes do this by themselves when two thirds of a certificate's life are over.
    """
    if bool(node) == all:
        raise PlumError("name nodes, or --all", "plumctl node rotate --all", ExitCode.USAGE)
    client = connect(socket)
    names = node or [str(found["name"]) for found in client.zone()["nodes"]]
    failed: list[Problem] = []
    for name in names:
        try:
            done = client.rotate(name)
        except PlumError as error:
            failed.append(Problem(name, error.message))
            continue
        output.line(f"{name}  until {done['certificate_expires']}")
    if failed:
        raise PlumError(
            f"{len(failed)} of {len(names)} nodes did not take a new certificate",
            "what they have is still good; see plumctl zone show, and try again",
            problems=tuple(failed),
        )
