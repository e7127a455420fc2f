"""plumctl zone rotate-ca"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from plumctl import asking, options, output
from plumctl.answers import Document
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.locate import connect

app = options.new_app()

_POLL_S = 1.0


@app.command(
    "rotate-ca",
    epilog=options.examples(
        "plumctl zone rotate-ca                  # a new one beside the old one",
        "plumctl zone rotate-ca --finish         # the old one is trusted no longer",
    ),
)
def rotate_ca(
    finish: Annotated[
        bool, typer.Option("--finish", help="Drop the old one, once no node needs it.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Forget the new one, while it has signed nothing.")
    ] = False,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="etcd trusts the new one too: have it sign.")
    ] = False,
    yes: options.Yes = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="For the nodes to follow.")
    ] = 120.0,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Replace the zone's authority, which signs the nodes' certificates.

    Nodes first trust the new one as well, then take certificates of it, by themselves. No
    connection and no packet notices. Run again, it waits for nodes that were not there. Exits 7
    when some have not followed, and names them.
    """
    if finish + abort + go_on > 1:
        raise PlumError("--finish, --abort and --go-on exclude each other", "", ExitCode.USAGE)
    client = connect(socket)
    if finish:
        asking.sure("What was signed by the old authority is refused from then on.", yes=yes)
        change = _followed(client, client.change_authority("finish"), timeout)
    elif abort:
        change = _followed(client, client.change_authority("abort"), timeout)
    else:
        change = client.change_authority("go-on") if go_on else _begun(client)
        change = _followed(client, change, timeout)
    _emit(change, format)


def _begun(client: Client) -> Document:
    """The change that is under way, or a new one."""
    known: Document | None = client.zone().get("authority_change")
    if known is not None and known["phase"] != "settled":
        output.note(f"Begun {known['since']} by {known['by']}.")
        return known
    return client.change_authority("begin")


def _followed(client: Client, change: Document, timeout_s: float) -> Document:
    """When every node has, or PlumError with those that have not."""
    from plumctl.progress import working

    deadline = time.monotonic() + timeout_s
    with working("waiting for the nodes") as progress:
        while change["waiting_for"] or (change["phase"] == "spread" and not change["hold"]):
            progress.say(f"{change['phase']}: waiting for {len(change['waiting_for'])} nodes")
            if time.monotonic() >= deadline:
                raise PlumError(
                    f"{len(change['waiting_for'])} nodes have not followed yet",
                    "start plumd there, or remove what is gone for good (plumctl node remove); "
                    "then run this again",
                    ExitCode.TIMED_OUT,
                    tuple(Problem(name, change["phase"]) for name in change["waiting_for"]),
                )
            time.sleep(_POLL_S)
            change = client.zone()["authority_change"]
    return change


def _emit(change: Document, format: str) -> None:
    out = output.Output(format)
    if not out.is_table:
        out.rows([change], (), whole=change, name=lambda found: str(found["phase"]))
        return
    output.details(
        [
            ("Authority", str(change["authority_fingerprint"])),
            ("Phase", str(change["phase"])),
            ("Since", f"{change['since']}, by {change['by']}"),
        ]
    )
    if change["phase"] == "switch":
        output.suggest("plumctl zone rotate-ca --finish")
    elif change["phase"] == "spread":
        output.note(
            "etcd asks nodes for certificates of this zone: have its members trust ca.pem of a "
            "node (/var/lib/plum/trust), which holds both authorities now."
        )
        output.suggest("plumctl zone rotate-ca --go-on")
