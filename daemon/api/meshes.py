"""Routes about the underlay, as nodes measure it between their VTEPs."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from daemon.api.answers import NodeMesh, ZoneMesh
from daemon.api.backend import Backend, BackendDep
from daemon.api.client import PeerError
from daemon.api.node import check_node
from daemon.model.object import Kind
from daemon.zone.keys import ROOT

router = APIRouter(prefix="/v1", tags=["mesh"])


@router.get("/nodes/{node}/mesh", operation_id="node_mesh", summary="The underlay from one node")
async def node_mesh(backend: BackendDep, node: str) -> NodeMesh:
    """Loss and latency to every other VTEP, answered by the datapath there."""
    await check_node(backend, node)
    return await _ask(backend, node)


@router.get("/mesh", operation_id="zone_mesh", summary="The underlay from every node")
async def zone_mesh(backend: BackendDep) -> ZoneMesh:
    """A node that does not answer is named with its error."""
    nodes = await backend.store.list(f"{ROOT}{Kind.NODE}/")
    names = sorted({item.key.rpartition("/")[2] for item in nodes.items} | {backend.node.name})
    answers = await asyncio.gather(*(_ask(backend, name) for name in names))
    return ZoneMesh(nodes=dict(zip(names, answers, strict=True)))


async def _ask(backend: Backend, node: str) -> NodeMesh:
    if node == backend.node.name:
        return backend.node.mesh()
    try:
        target = f"/v1/nodes/{node}/mesh"
        document = await backend.peers.get_json(node, target, backend.peer_timeout_s)
        return NodeMesh.model_validate(document)
    except (PeerError, ValueError) as error:
        return NodeMesh(node=node, error=str(error))
