"""plumctl endpoint"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from plumctl import applying, names, options, output
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect

app = options.new_app("Create and delete endpoints: where VMs, containers and appliances attach.")


@app.command(
    epilog=options.examples(
        "plumctl endpoint create web-1 -t acme -d shop --bridge web --node n1 --wait",
        "plumctl endpoint create acme/shop/vm-1 --bridge web --node n1 --tap tap0",
        "plumctl endpoint create acme/shop/db-1 --bridge db --node n2 --veth veth7 \\",
        "    --address 10.0.3.10 --mac 02:00:00:00:00:10 --label tier=db",
    )
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Full path, or NAME with -t and -d.")],
    bridge: Annotated[str, typer.Option(metavar="BRIDGE", help="Bridge of the domain.")],
    node: Annotated[str, typer.Option(metavar="NODE", help="Node that hosts it.")],
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    netns: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Network namespace; made if absent (the default)."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Device inside the namespace [eth0].")
    ] = None,
    tap: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="An existing tap device of the node.")
    ] = None,
    veth: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="An existing veth device of the node.")
    ] = None,
    dhcp: Annotated[
        bool, typer.Option("--dhcp", help="The workload asks by DHCP; plumd sets nothing inside.")
    ] = False,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="May be repeated. Default: a free one per subnet."),
    ] = None,
    mac: Annotated[str | None, typer.Option(metavar="MAC", help="Default: allocated.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    dry_run: options.DryRun = False,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Create an endpoint. It stays closed until its node has programmed it."""
    out = output.Output(format, headers=not no_headers)
    tenant, domain, name = _place(name, *names.scope(tenant, domain))
    client = connect(socket)
    _must_be_new(client, f"{tenant}/{domain}/{name}")
    spec: dict[str, Any] = {"domain": domain, "bridge": bridge, "node": node}
    if address:
        spec["addresses"] = address
    if mac:
        spec["mac"] = mac
    if label:
        spec["labels"] = dict(_label(text) for text in label)
    attach = _attach(netns, device, tap, veth)
    if dhcp:
        attach["configure"] = "dhcp"
    if attach:
        spec["attach"] = attach
    manifest = {"kind": "endpoint", "tenant": tenant, "name": name, "spec": spec}
    applied = client.apply([manifest], dry_run=dry_run)
    applying.emit(out, applied, dry_run=dry_run)
    if dry_run:
        return
    if wait:
        applying.wait(client, applied.revision, timeout)
    output.suggest(f"plumctl describe endpoint {tenant}/{domain}/{name}")


@app.command(
    epilog=options.examples(
        "plumctl endpoint delete acme/shop/web-1 --wait", "plumctl endpoint delete web-1 web-2"
    )
)
def delete(
    name: Annotated[list[str], typer.Argument(metavar="ENDPOINT", help="Full path or short name.")],
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    dry_run: options.DryRun = False,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Delete endpoints: all that are named, or none when one is refused."""
    from plumctl.commands.delete import delete as delete_objects

    delete_objects(
        kind="endpoint",
        name=name,
        tenant=tenant,
        domain=domain,
        wait=wait,
        timeout=timeout,
        dry_run=dry_run,
        format=format,
        no_headers=no_headers,
        socket=socket,
    )


def _place(name: str, tenant: str | None, domain: str | None) -> tuple[str, str, str]:
    parts = name.split("/")
    if len(parts) == 3 and all(parts):
        return parts[0], parts[1], parts[2]
    if tenant and domain and len(parts) == 1:
        return tenant, domain, name
    raise PlumError(
        f"which domain is {name!r} to be in?",
        "write TENANT/DOMAIN/NAME, or add --tenant and --domain",
        ExitCode.USAGE,
    )


def _must_be_new(client: Client, path: str) -> None:
    try:
        client.get("endpoint", path)
    except PlumError as error:
        if error.exit_code == ExitCode.NOT_FOUND:
            return
        raise
    raise PlumError(
        f"there is an endpoint {path} already",
        f"look at it (plumctl describe endpoint {path}); change it with plumctl apply",
        ExitCode.CONFLICT,
    )


def _attach(
    netns: str | None, device: str | None, tap: str | None, veth: str | None
) -> dict[str, Any]:
    if sum(kind is not None for kind in (netns, tap, veth)) > 1:
        raise PlumError(
            "an endpoint attaches once", "give one of --netns, --tap and --veth", ExitCode.USAGE
        )
    if device and (tap or veth):
        raise PlumError(
            "--device names a device inside a namespace", "leave it out", ExitCode.USAGE
        )
    if tap:
        return {"kind": "tap", "device": tap}
    if veth:
        return {"kind": "veth", "device": veth}
    inside = {"namespace": netns, "device": device}
    return {key: value for key, value in inside.items() if value}


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise PlumError(f"{text!r} is no label", "write KEY=VALUE", ExitCode.USAGE)
    return key, value
