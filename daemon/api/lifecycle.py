"""Routes that empty a node and take it out of the zone."""

from __future__ import annotations

from fastapi import APIRouter, Request

from daemon.api.answers import Applied, NodeEndpoints
from daemon.api.backend import ActorDep, BackendDep
from daemon.api.changes import applied
from daemon.zone import lifecycle
from daemon.zone.read import read_current

router = APIRouter(prefix="/v1/nodes", tags=["nodes"])


@router.post("/{node}/cordon", operation_id="cordon", summary="Place no new endpoints there")
async def cordon(request: Request, backend: BackendDep, actor: ActorDep, node: str) -> Applied:
    """What is there stays and works."""
    result = await lifecycle.cordon(backend.store, node, True, actor=actor)
    return applied(request, result, dry_run=False)


@router.post("/{node}/uncordon", operation_id="uncordon", summary="Place endpoints there again")
async def uncordon(request: Request, backend: BackendDep, actor: ActorDep, node: str) -> Applied:
    """The opposite of cordon."""
    result = await lifecycle.cordon(backend.store, node, False, actor=actor)
    return applied(request, result, dry_run=False)


@router.post("/{node}/remove", operation_id="remove_node", summary="Take a node out of the zone")
async def remove(request: Request, backend: BackendDep, actor: ActorDep, node: str) -> Applied:
    """Refused while endpoints are on it. Its certificate is void from then on."""
    result = await lifecycle.remove(backend.store, node, actor=actor)
    return applied(request, result, dry_run=False)


@router.get("/{node}/endpoints", operation_id="node_endpoints", summary="Endpoints of a node")
async def endpoints(backend: BackendDep, node: str) -> NodeEndpoints:
    """Their paths: what a drain waits for."""
    _, snapshot = await read_current(backend.store)
    paths = lifecycle.endpoints_on(snapshot, node)
    return NodeEndpoints(node=node, cordoned=snapshot.nodes[node].cordoned, endpoints=tuple(paths))
