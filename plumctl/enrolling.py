"""Getting this machine into a zone, by a program of the daemon's: keys are made there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Annotated, Any, cast

import typer

from plumctl import output
from plumctl.answers import Document
from plumctl.errors import ExitCode, PlumError
from plumctl.offline import of_daemon

StateDir = Annotated[
    str,
    typer.Option(
        "--state-dir", metavar="DIR", envvar="PLUM_STATE_DIR", help="As plumd is given it."
    ),
]
Vtep = typer.Option(
    "--vtep", metavar="ADDRESS", help="This machine's address on the underlay.", show_default=False
)
Mtu = Annotated[
    int | None,
    typer.Option("--underlay-mtu", metavar="BYTES", help="Of the underlay (default: 1500)."),
]

DEFAULT_STATE_DIR = "/var/lib/plum"


def host_name() -> str:
    return socket.gethostname().split(".")[0].lower()


def enroll(what: str, given: Mapping[str, object], stdin: bytes = b"") -> Document:
    """`given`: options and their values; None and False are left out."""
    return cast(Document, of_root("enroll", what, given, stdin))


def of_root(module: str, what: str, given: Mapping[str, object], stdin: bytes = b"") -> Any:
    """Run a program of the daemon's that works with the keys of this machine."""
    if os.geteuid() != 0:
        raise PlumError(
            "this needs root: it works with keys that only plumd may read",
            "sudo plumctl ...",
            ExitCode.NO_PERMISSION,
        )
    flags: list[str] = []
    for name, value in given.items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not None and value is not False:
            flags += [f"--{name}", str(value)]
    return json.loads(of_daemon(module, what, *flags, stdin=stdin).stdout)


def emit(answer: Document, format: str) -> None:
    """What this machine is now."""
    out = output.Output(format)
    if not out.is_table:
        out.rows([answer], (), whole=answer, name=lambda found: str(found["zone"]))
        return
    output.details(
        [
            ("Zone", str(answer["zone"])),
            ("Node", str(answer["node"])),
            ("VTEP", str(answer["vtep"])),
            ("Store", str(answer["store"])),
            ("Authority", str(answer["authority_fingerprint"])),
            ("Certificate", f"until {answer['certificate_expires']}"),
        ]
    )
    output.suggest("systemctl restart plumd, then plumctl zone show")
