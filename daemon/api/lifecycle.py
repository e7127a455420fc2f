"""Routes that empty a node and take it out of the zone."""

from __future__ import annotations

from fastapi import APIRouter, Request

from daemon.api.answers import Applied, NodeEndpoints
from daemon.api.backend import ActorDep, Backend, BackendDep
from daemon.api.changes import applied
from daemon.store.open import ETCD_PORT, endpoint, relies_on_zone
from daemon.zone import lifecycle
from daemon.zone.errors import CONFLICT, ZoneError
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
    await _check_no_member(backend, node)
    result = await lifecycle.remove(backend.store, node, actor=actor)
    return applied(request, result, dry_run=False)


async def _check_no_member(backend: Backend, node: str) -> None:
    """The zone's own etcd would lose a member unasked, when the node's certificate expires."""
    member = backend.member
    address = member.address(node) if member else None
    if member is None or address is None:
        return
    if not relies_on_zone(member.credentials.trust.membership.store):
        return
    if endpoint(address, ETCD_PORT) in await backend.store.follow_members():
        hint = f"take it out of the cluster first: plumctl etcd remove {node}"
        raise ZoneError(f"{node} runs a member of the zone's etcd", hint, code=CONFLICT)


@router.get("/{node}/endpoints", operation_id="node_endpoints", summary="Endpoints of a node")
async def endpoints(backend: BackendDep, node: str) -> NodeEndpoints:
    """Their paths: what a drain waits for."""
    _, snapshot = await read_current(backend.store)
    paths = lifecycle.endpoints_on(snapshot, node)
    return NodeEndpoints(node=node, cordoned=snapshot.nodes[node].cordoned, endpoints=tuple(paths))
