"""Routes about nodes: how this one fares, and the counters of one or all."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from daemon.api.answers import NodeCounters, NodeReport, ZoneCounters
from daemon.api.backend import Backend, BackendDep
from daemon.api.client import PeerError, get_json
from daemon.api.errors import NotFoundError
from daemon.api.reports import read_reports
from daemon.api.sight import SightDep
from daemon.model.object import Kind, Ref
from daemon.zone.keys import ROOT, object_key

router = APIRouter(prefix="/v1", tags=["status"])


@router.get("/status", operation_id="status", summary="How this node fares")
async def status(backend: BackendDep, sight: SightDep) -> NodeReport:
    """What is not programmed and why, and what was repaired."""
    return sight.report(backend.node.report())


@router.get("/nodes/{node}/counters", operation_id="node_counters", summary="Counters of one node")
async def node_counters(backend: BackendDep, sight: SightDep, node: str) -> NodeCounters:
    """Of endpoints, rules and drops. A node that cannot be asked: `error` says why."""
    await check_node(backend, node)
    reports = await read_reports(backend.store)
    report = reports.get(node)
    return sight.counters(await _ask(backend, node, report.api if report else ""))


async def check_node(backend: Backend, node: str) -> None:
    """Raises NotFoundError unless it is this node or one of the zone."""
    if node == backend.node.name:
        return
    try:
        ref = Ref.parse(Kind.NODE, node)
    except ValueError as error:
        raise NotFoundError(str(error), "see which there are: plumctl get node") from error
    if await backend.store.get(object_key(ref)) is None:
        raise NotFoundError(f"there is no node {node}", "see which: plumctl get node")


@router.get("/counters", operation_id="zone_counters", summary="Counters of all nodes")
async def zone_counters(backend: BackendDep, sight: SightDep) -> ZoneCounters:
    """Asked at once; a node that does not answer in time is named with its error."""
    reports = await read_reports(backend.store)
    nodes = await backend.store.list(f"{ROOT}{Kind.NODE}/")
    names = sorted({item.key.rpartition("/")[2] for item in nodes.items} | {backend.node.name})
    answers = await asyncio.gather(
        *(_ask(backend, name, reports[name].api if name in reports else "") for name in names)
    )
    shown = map(sight.counters, answers)
    return ZoneCounters(nodes=dict(zip(names, shown, strict=True)))


async def _ask(backend: Backend, node: str, api: str) -> NodeCounters:
    if node == backend.node.name:
        return await backend.node.counters()
    if not api:
        return NodeCounters(node=node, error="no plumd has reported from this node yet")
    try:
        document = await get_json(api, f"/v1/nodes/{node}/counters", backend.peer_timeout_s)
        return NodeCounters.model_validate(document)
    except (PeerError, ValueError) as error:
        return NodeCounters(node=node, error=str(error))
