"""plumctl node join"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from plumctl import enrolling, options
from plumctl.commands.zone_init import address

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl node join - < token        # keeps it out of the shell's history",
        "plumctl node join plumjoin_eyJ6b25lIjoi... --vtep 192.0.2.4",
    )
)
def join(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="Of plumctl node token, or - for stdin.")
    ],
    vtep: Annotated[str | None, enrolling.Vtep] = None,
    underlay_mtu: enrolling.Mtu = None,
    again: Annotated[
        bool, typer.Option("--again", help="In place of the zone this machine is in.")
    ] = False,
    state_dir: enrolling.StateDir = enrolling.DEFAULT_STATE_DIR,
    format: options.Format = "table",
) -> None:
    """Make this machine a node of a zone. Its private key is made here and stays here."""
    text = sys.stdin.read(65536) if token == "-" else token
    given = {
        "vtep": address(vtep) if vtep else None,
        "underlay-mtu": underlay_mtu,
        "again": again,
        "state-dir": state_dir,
    }
    enrolling.emit(enrolling.enroll("join", given, text.encode()), format)
