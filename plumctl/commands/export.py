"""plumctl export"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from plumctl import names, options, output
from plumctl.answers import View
from plumctl.locate import connect

app = options.new_app()

#: Referred-to before referring.
_ORDER = ("tenant", "node", "external", "domain", "endpoint", "adminpolicy")


@app.command(
    epilog=options.examples(
        "plumctl export > zone.yaml",
        "plumctl export --tenant acme --domain shop | sed s/acme/zeta/ | plumctl apply -f -",
        "plumctl export endpoint -o json",
    )
)
def export(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="Only this kind (default: all).")
    ] = None,
    tenant: options.Tenant = None,
    domain: options.Domain = None,
    format: Annotated[
        str, typer.Option("-o", "--output", metavar="FORMAT", help="yaml or json.")
    ] = "yaml",
    socket: options.Socket = None,
) -> None:
    """Print objects as manifests that make them again. Nodes and external networks only if no tenant is named."""
    out = output.Output(format)
    client = connect(socket)
    tenant, domain = names.scope(tenant, domain)
    wanted = (names.kind_of(kind),) if kind else _ORDER
    manifests = []
    for each in wanted:
        if each in names.ZONE_KINDS and (tenant or domain) and not kind:
            continue
        for view in client.list(each, *_scope(each, tenant, domain)).items:
            if _within(view, tenant, domain):
                manifests.append(_manifest(view))
    if out.format == "yaml":
        output.write_yaml(manifests)
    else:
        out.value(manifests)


def _scope(kind: str, tenant: str | None, domain: str | None) -> tuple[str | None, str | None]:
    if kind in ("tenant", *names.ZONE_KINDS):
        return None, None
    return (tenant, None) if kind == "domain" else (tenant, domain)


def _within(view: View, tenant: str | None, domain: str | None) -> bool:
    if view.kind == "node":
        return "vtep" in view.spec  # operators are not shown all of a node, so it makes none
    if view.kind == "external":
        return "gateways" in view.spec
    if tenant and view.tenant != tenant:
        return False
    return not domain or view.kind == "tenant" or view.domain == domain


def _manifest(view: View) -> Mapping[str, Any]:
    owner = {"tenant": view.tenant} if view.kind in ("domain", "endpoint") else {}
    return {"kind": view.kind, "name": view.name, **owner, "spec": view.spec}
