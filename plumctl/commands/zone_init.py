"""plumctl zone init"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

import typer

from plumctl import enrolling, options
from plumctl.errors import ExitCode, PlumError

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl zone init --vtep 192.0.2.1",
        "plumctl zone init --vtep 192.0.2.1 --etcd",
        "plumctl zone init --vtep 192.0.2.1 --store \\",
        "    'etcd://192.0.2.8:2379,192.0.2.9:2379?ca=ca.pem&cert=node.pem&key=node.key'",
    )
)
def init(
    vtep: Annotated[str, enrolling.Vtep],
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Its name (default: the host's).")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Of etcd (default: a file on this machine)."),
    ] = None,
    etcd: Annotated[
        bool,
        typer.Option("--etcd", help="Run an etcd for it here, by systemd (plumctl etcd add)."),
    ] = False,
    underlay_mtu: enrolling.Mtu = None,
    state_dir: enrolling.StateDir = enrolling.DEFAULT_STATE_DIR,
    format: options.Format = "table",
) -> None:
    """Make a zone with an authority of its own, and this machine its first director.

    A store that plumd used on this machine alone becomes the zone's, with all its objects.
    """
    if etcd and store:
        message = "--etcd runs one here, --store names one that runs"
        raise PlumError(message, "give one of both", ExitCode.USAGE)
    answer = enrolling.enroll(
        "init",
        {
            "vtep": address(vtep),
            "node": node or enrolling.host_name(),
            "store": None if etcd else store or f"sqlite://{state_dir}/store.db",
            "etcd": etcd,
            "underlay-mtu": underlay_mtu,
            "state-dir": state_dir,
        },
    )
    enrolling.emit(answer, format)


def address(text: str) -> str:
    """Checked and in its shortest form. Raises PlumError."""
    try:
        return str(ip_address(text))
    except ValueError:
        hint = "give this machine's address on the underlay, such as 192.0.2.1"
        raise PlumError(f"{text!r} is no IP address", hint, ExitCode.USAGE) from None
