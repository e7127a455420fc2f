"""What a node reports of itself, and what follows for an object. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from daemon.model.object import (
    AdminPolicy,
    Domain,
    Endpoint,
    External,
    Kind,
    Node,
    Object,
    Ref,
    Tenant,
    ref_of,
)
from daemon.zone.keys import ROOT

STATUS = f"{ROOT}status/"


class State(StrEnum):
    PROGRAMMED = "programmed"
    PENDING = "pending"
    ERROR = "error"


class _Report(BaseModel):
    """Unlike the model, a report of a newer plumd may say more."""

    model_config = ConfigDict(frozen=True)


class Exceptional(_Report):
    """An object the node has not programmed, whatever its revision."""

    kind: Kind
    path: str
    state: State
    reason: str


class Repair(_Report):
    """Something somebody changed by hand, put back."""

    time: str = Field(description="RFC 3339")
    what: str


class NodeStatus(_Report):
    """Value of /plum/status/NODE. One write tells of any number of objects."""

    node: str
    applied_revision: int
    exceptions: tuple[Exceptional, ...] = ()
    api: str = Field(default="", description="URL other daemons reach this one at")
    version: str = ""
    updated: str = ""


class NodeState(_Report):
    state: State
    reason: str = ""


class ObjectStatus(_Report):
    """How an object fares: the worst of the nodes concerned."""

    state: State
    reason: str = ""
    nodes: dict[str, NodeState] = {}


def status_key(node: str) -> str:
    return f"{STATUS}{node}"


def concerned_nodes(item: Object, endpoints: Iterable[Endpoint]) -> list[str]:
    """Nodes whose kernel must hold the object. `endpoints`: all of the zone."""
    match item:
        case Tenant():
            return []
        case Endpoint():
            return [item.spec.node]
        case Domain():
            return sorted(
                {
                    e.spec.node
                    for e in endpoints
                    if e.tenant == item.tenant and e.spec.domain == item.name
                }
            )
        case AdminPolicy():
            chosen = item.spec.applies_to
            return sorted(
                {e.spec.node for e in endpoints if chosen.takes(f"{e.tenant}/{e.spec.domain}")}
            )
        case External():
            return sorted(gateway.node for gateway in item.spec.gateways)
        case Node():
            return [item.name]


def object_status(
    item: Object,
    revision: int,
    nodes: Iterable[str],
    reports: Mapping[str, NodeStatus],
    exceptions: Mapping[tuple[str, Kind, str], Exceptional],
) -> ObjectStatus:
    """State on each node and over all. `exceptions`: what `by_object` returned."""
    ref = ref_of(item)
    states = {node: _on_node(ref, revision, node, reports.get(node), exceptions) for node in nodes}
    for worst in (State.ERROR, State.PENDING):
        for node, found in states.items():
            if found.state is worst:
                return ObjectStatus(state=worst, reason=f"{node}: {found.reason}", nodes=states)
    return ObjectStatus(state=State.PROGRAMMED, nodes=states)


def by_object(
    reports: Mapping[str, NodeStatus],
) -> dict[tuple[str, Kind, str], Exceptional]:
    """Every exception, by node, kind and path."""
    return {
        (node, exception.kind, exception.path): exception
        for node, report in reports.items()
        for exception in report.exceptions
    }


def _on_node(
    ref: Ref,
    revision: int,
    node: str,
    report: NodeStatus | None,
    exceptions: Mapping[tuple[str, Kind, str], Exceptional],
) -> NodeState:
    if report is None:
        return NodeState(state=State.PENDING, reason="no plumd has reported from this node yet")
    exception = exceptions.get((node, ref.kind, ref.path))
    if exception is not None:
        return NodeState(state=exception.state, reason=exception.reason)
    if report.applied_revision < revision:
        return NodeState(state=State.PENDING, reason=behind(report, revision))
    return NodeState(state=State.PROGRAMMED)


def behind(report: NodeStatus, revision: int) -> str:
    return f"has applied revision {report.applied_revision}, this needs {revision}"
