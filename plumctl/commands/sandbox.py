"""plumctl sandbox"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from plumctl import options, output
from plumctl.sandbox.layout import current_layout

app = options.new_app(
    "A whole zone on this machine, to try things out: every node a network namespace with its "
    "own plumd, joined by an underlay that packets really cross. PLUM_SANDBOX=NAME names a "
    "second one."
)

# `plumctl sandbox exec web-1 ping -c 1 ...`: options after the name belong to the command.
_REST = {"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}

Command = Annotated[list[str], typer.Argument(metavar="COMMAND", help="Command to run.")]
Endpoint = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="Full path or short name of an endpoint.")
]


@app.command(
    epilog=options.examples(
        "plumctl sandbox up",
        "plumctl sandbox up --nodes 2 --domain examples/shop.yaml",
        "plumctl sandbox up --underlay 6 --mtu 9000",
        "plumctl sandbox up --store etcd",
    )
)
def up(
    nodes: Annotated[int, typer.Option(metavar="COUNT", help="How many nodes.")] = 3,
    domain: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Manifests to apply. May be repeated."),
    ] = None,
    underlay: Annotated[int, typer.Option(metavar="4|6", help="IP family of the underlay.")] = 4,
    mtu: Annotated[int, typer.Option(metavar="BYTES", help="MTU of the underlay.")] = 1500,
    store: Annotated[
        str, typer.Option(metavar="sqlite|etcd", help="etcd: three members, in the first nodes.")
    ] = "sqlite",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the manifests.")
    ] = 60.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="When it fails, leave what was made, with the logs.")
    ] = False,
) -> None:
    """Bring a zone up. Mends the one that is up; clears what a killed run left behind."""
    from plumctl import applying, manifests
    from plumctl.errors import PlumError
    from plumctl.progress import working
    from plumctl.sandbox import state, zone

    wanted = zone.fabric_for(nodes, underlay, mtu, store)
    read = manifests.read(domain) if domain else None  # a typo costs no wait
    state.need_root("sandbox up")
    layout = current_layout()
    with working("bringing the sandbox up") as progress:
        fresh = zone.up(layout, wanted, progress.say, keep=keep)
    output.note(f"{len(wanted.nodes)} nodes are {'up' if fresh else 'up already'}.")
    client = zone.client(layout)
    if read:
        try:
            applied = client.apply(read.documents, comment="sandbox up")
        except PlumError as error:
            raise read.place(error) from error
        output.note(f"{len(applying.changed(applied))} objects changed.")
        applying.wait(client, applied.revision, timeout)
        output.suggest("plumctl get endpoint, then plumctl sandbox exec ENDPOINT -- COMMAND")
    else:
        output.suggest("plumctl apply -f FILE --wait")


@app.command(epilog=options.examples("plumctl sandbox down"))
def down() -> None:
    """Remove the sandbox and all that it made."""
    from plumctl.progress import working
    from plumctl.sandbox import state, zone

    state.need_root("sandbox down")
    with working("taking the sandbox down") as progress:
        there = zone.down(current_layout(), progress.say)
    output.note("The sandbox is gone." if there else "There was no sandbox.")


@app.command(epilog=options.examples("plumctl sandbox status", "plumctl sandbox status -o json"))
def status(
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """How each node of the sandbox fares. Exits 1 when one is not running."""
    from dataclasses import asdict

    from plumctl.errors import PlumError
    from plumctl.output import Column
    from plumctl.sandbox import zone

    out = output.Output(format, headers=not no_headers)
    layout = current_layout()
    states = zone.states(layout)
    shown: list[Column[zone.NodeState]] = [
        Column("NODE", lambda node: node.name),
        Column("STATE", lambda node: node.state),
        Column("VTEP", lambda node: node.address),
        Column("PID", lambda node: str(node.pid or ""), right=True),
        Column("REVISION", lambda node: str(node.revision), right=True),
        Column("EXCEPTIONS", lambda node: str(node.exceptions), right=True),
        Column("SOCKET", lambda node: str(node.socket)),
        Column("NAMESPACE", lambda node: layout.namespace(node.name), wide=True),
        Column("LOG", lambda node: str(layout.log(node.name)), wide=True),
    ]
    documents = [asdict(node) | {"socket": str(node.socket)} for node in states]
    out.rows(states, shown, whole={"items": documents}, name=lambda node: node.name)
    wrong = [node for node in states if node.state != "running"]
    if wrong:
        first = wrong[0].name
        raise PlumError(
            f"{', '.join(node.name for node in wrong)} not running",
            f"look at {layout.log(first)}; `plumctl sandbox up` starts it again",
        )


@app.command(
    context_settings=_REST,
    epilog=options.examples(
        "plumctl sandbox exec acme/shop/web-1 -- ping -c 3 10.0.2.10",
        "plumctl sandbox exec web-1 -- ip address",
    ),
)
def exec(
    endpoint: Endpoint,
    command: Command,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
) -> None:
    """Run a command inside an endpoint. Exits as the command does."""
    from plumctl.run import replace
    from plumctl.sandbox import fabric, state, workload

    state.need_root("sandbox exec")
    namespace = workload.namespace_of(current_layout(), endpoint, tenant, domain)
    replace(fabric.enter(namespace, _command(command)))


@app.command(epilog=options.examples("plumctl sandbox shell acme/shop/web-1"))
def shell(
    endpoint: Endpoint,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
) -> None:
    """Open a shell inside an endpoint."""
    from plumctl.run import replace
    from plumctl.sandbox import fabric, state, workload

    state.need_root("sandbox shell")
    namespace = workload.namespace_of(current_layout(), endpoint, tenant, domain)
    output.suggest("ip address; leave with exit")
    replace(fabric.enter(namespace, [os.environ.get("SHELL") or "/bin/sh"]))


@app.command(
    context_settings=_REST,
    epilog=options.examples(
        "plumctl sandbox node n1 -- ip -brief address",
        "plumctl sandbox node n2 -- plumctl status     # asks n2's plumd",
    ),
)
def node(
    name: Annotated[str, typer.Argument(metavar="NODE", help="Node of the sandbox.")],
    command: Command,
) -> None:
    """Run a command inside a node. Exits as the command does."""
    from plumctl.run import replace
    from plumctl.sandbox import fabric, state, workload

    state.need_root("sandbox node")
    layout = current_layout()
    namespace = workload.node_namespace(layout, name)
    socket = f"PLUM_SOCKET={layout.socket(name)}"
    replace(fabric.enter(namespace, ["env", socket, *_command(command)]))


@app.command(
    context_settings=_REST,
    epilog=options.examples("plumctl sandbox outside -- ping -c 3 198.51.100.130"),
)
def outside(command: Command) -> None:
    """Run a command on the host outside the zone. Exits as the command does."""
    from plumctl.run import replace
    from plumctl.sandbox import fabric, state, zone

    state.need_root("sandbox outside")
    layout = current_layout()
    zone.states(layout)  # says so where no sandbox is up
    replace(fabric.enter(layout.outside, _command(command)))


def _command(words: list[str]) -> list[str]:
    return words[1:] if words[0] == "--" else words
