"""From a name to the namespace to enter."""

from __future__ import annotations

from daemon.model.derive import attach_namespace
from daemon.model.endpoint import EndpointSpec
from plumctl import names
from plumctl.errors import ExitCode, PlumError
from plumctl.sandbox import fabric, state, zone
from plumctl.sandbox.layout import Layout


def namespace_of(
    layout: Layout, endpoint: str, tenant: str | None = None, domain: str | None = None
) -> str:
    """The namespace of a netns endpoint that is there. Raises PlumError."""
    client = zone.client(layout)
    path = names.resolve(client, "endpoint", endpoint, *names.scope(tenant, domain))
    try:
        view = client.get("endpoint", path)
    except PlumError as error:
        raise names.explain_missing(client, "endpoint", path, error) from error
    spec = EndpointSpec.model_validate_json(_json(view.spec))
    namespace = attach_namespace(view.tenant, view.name, spec)
    if namespace is None:
        raise PlumError(
            f"{path} is attached to the device {spec.attach.device} of {spec.node}; "
            "what is behind it is not ours to enter",
            f"look at the device: plumctl sandbox node {spec.node} -- ip link",
        )
    if namespace not in fabric.namespaces():
        reason = f" ({view.reason})" if view.reason else ""
        raise PlumError(
            f"{path} has no namespace yet: it is {view.state}{reason}",
            f"plumctl describe endpoint {path}",
        )
    return namespace


def node_namespace(layout: Layout, node: str) -> str:
    known = state.read(layout)
    if known is None:
        raise zone.no_sandbox()
    if node not in known.nodes:
        raise PlumError(
            f"the sandbox has no node {node!r}",
            f"its nodes are {', '.join(known.nodes)}",
            ExitCode.NOT_FOUND,
        )
    return layout.namespace(node)


def _json(document: object) -> str:
    import json

    return json.dumps(document)
