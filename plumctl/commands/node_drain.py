"""plumctl node drain"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from plumctl import asking, options, output
from plumctl.client import Client
from plumctl.commands.node_cordon import Node
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.locate import connect

app = options.new_app()

_POLL_S = 1.0
_NAMED = 20  # endpoints that a message lists


@app.command(
    epilog=options.examples(
        "plumctl node drain n3 --timeout 600",
        "plumctl node drain n3 --timeout 0                 # what is still there?",
        "plumctl node drain n3 --delete-endpoints          # their machines are gone for good",
    )
)
def drain(
    node: Node,
    delete_endpoints: Annotated[
        bool, typer.Option("--delete-endpoints", help="Delete the endpoints that are there.")
    ] = False,
    yes: options.Yes = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 300.0,
    socket: options.Socket = None,
) -> None:
    """Cordon a node, then wait until no endpoints are on it.

    An endpoint is the device of a machine or container on that node. Plum cannot move those:
    who runs them (an orchestrator, a person) moves them and changes or deletes the endpoints.
    Exits 7 when some are left, and names them.
    """
    client = connect(socket)
    client.cordon(node, cordoned=True)
    output.note(f"{node} is cordoned.")
    remaining = client.node_endpoints(node)
    if delete_endpoints and remaining:
        for path in remaining:
            output.note(f"  {path}")
        asking.sure(f"These {len(remaining)} endpoints of {node} are deleted.", yes=yes)
        applied = client.delete([("endpoint", path) for path in remaining])
        output.note(f"{len(remaining)} endpoints deleted; history {applied.history}.")
    remaining = _wait(client, node, timeout)
    if remaining:
        raise PlumError(
            f"{len(remaining)} endpoints are still on {node}",
            "move or delete their machines and run this again; it stays cordoned "
            f"(plumctl node uncordon {node})",
            ExitCode.TIMED_OUT,
            _problems(remaining),
        )
    output.note(f"{node} hosts no endpoints.")
    output.suggest(f"plumctl node remove {node}")


def _wait(client: Client, node: str, timeout_s: float) -> tuple[str, ...]:
    """What is left at the end of the time."""
    from plumctl.progress import working

    deadline = time.monotonic() + timeout_s
    with working(f"waiting for the endpoints of {node}") as progress:
        while (remaining := client.node_endpoints(node)) and time.monotonic() < deadline:
            progress.say(f"waiting for {len(remaining)} endpoints of {node}")
            time.sleep(max(0.0, min(_POLL_S, deadline - time.monotonic())))
    return remaining


def _problems(paths: Sequence[str]) -> tuple[Problem, ...]:
    named = [Problem("", path) for path in paths[:_NAMED]]
    if len(paths) > _NAMED:
        named.append(Problem("", f"and {len(paths) - _NAMED} more"))
    return tuple(named)
