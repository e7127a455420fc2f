"""plumctl node add"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plumctl import options, output
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl node add n4.example.net --vtep 192.0.2.4 --package plum-networks_*.deb",
        "plumctl node add 10.9.8.7 --name n2 --vtep 192.0.2.2 --role director --role edge \\",
        "    --user ops --key ~/.ssh/ops --host-key SHA256:...",
    )
)
def add(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name or address for SSH.")],
    vtep: Annotated[
        str, typer.Option("--vtep", metavar="ADDRESS", help="Its address on the underlay.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="In the zone (default: HOST up to a dot)."),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="director, edge or gateway; may be repeated."),
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(
            "--package",
            metavar="FILE",
            help="The Debian package; may be left out where it is installed.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    user: Annotated[
        str, typer.Option("--user", metavar="USER", help="For SSH; not root: sudo -n must work.")
    ] = "root",
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65535)] = 22,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FILE", help="Private key (default: the agent's)."),
    ] = None,
    host_key: Annotated[
        str | None,
        typer.Option(
            "--host-key",
            metavar="SHA256:...",
            help="Fingerprint of the host's key (default: known_hosts must have it).",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="For its first report.")
    ] = 60.0,
    socket: options.Socket = None,
) -> None:
    """Make a Debian machine a node of this zone, over SSH.

    Checks it, installs the package, joins it and starts plumd. Each step says what it did;
    a second run keeps what is done and goes on. A host key that is not known is never taken.
    """
    from plumctl import adding
    from plumctl.toolbox.ssh import Target, connected

    named = name or _name_of(host)
    if host_key is not None and not host_key.startswith("SHA256:"):
        raise PlumError(
            f"{host_key!r} is no fingerprint", "ssh-keygen -lf FILE shows one", ExitCode.USAGE
        )
    client = connect(socket)
    client.zone()  # before anything is touched: may we, and is there one?

    def say(step: str, outcome: str, detail: str) -> None:
        output.line(f"{step:<14} {outcome:<6} {detail}")

    with connected(Target(host, user, port, key, host_key)) as machine:
        say("connect", "ok", f"{user}@{host} port {port}")
        facts = adding.look(machine, package, vtep, say)
        adding.install(machine, facts, package, say)
        adding.join(machine, facts, client, named, vtep, role or ["edge"], say)
        adding.start(machine, facts, say)
    adding.await_programmed(client, named, timeout, say)
    output.suggest(f"plumctl get node {named}")


def _name_of(host: str) -> str:
    if host.replace(".", "").isdecimal() or ":" in host:
        raise PlumError(
            f"what is {host} to be called in the zone?", "add --name NAME", ExitCode.USAGE
        )
    return host.split(".")[0].lower()
