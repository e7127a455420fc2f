"""Routes over the audit logs: of one node, and of all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Literal, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request

from daemon.api.answers import NodeAudit, ZoneAudit
from daemon.api.audit import Audit, timestamp
from daemon.api.audit_search import Wanted, merged, search, shown_to
from daemon.api.backend import Backend, BackendDep
from daemon.api.client import PeerError, get_json
from daemon.api.node import check_node
from daemon.api.principal import ON_BEHALF_HEADER, Principal
from daemon.api.reports import read_reports
from daemon.api.sight import Sight, SightDep
from daemon.model.object import Kind
from daemon.zone.keys import ROOT

router = APIRouter(prefix="/v1", tags=["access"])

MAX_LINES = 10_000
Text = Annotated[str, Query(max_length=300)]


def _wanted(
    since: datetime | None = None,
    user: Text = "",
    tenant: Text = "",
    object: Text = "",
    outcome: Literal["done", "refused", "failed"] | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 1000,
) -> Wanted:
    start = ""
    if since is not None:
        aware = since if since.tzinfo else since.replace(tzinfo=UTC)
        start = timestamp(aware.timestamp())
    return Wanted(start, user, tenant, object, outcome or "", limit)


WantedDep = Annotated[Wanted, Depends(_wanted)]


@router.get("/nodes/{node}/audit", operation_id="node_audit", summary="Audit log of one node")
async def node_audit(
    request: Request, backend: BackendDep, sight: SightDep, wanted: WantedDep, node: str
) -> NodeAudit:
    """Newest first. A node that cannot be asked: `error` says why."""
    await check_node(backend, node)
    reports = await read_reports(backend.store)
    return await _ask(
        request, backend, sight, wanted, node, reports[node].api if node in reports else ""
    )


@router.get("/audit", operation_id="zone_audit", summary="Audit logs of all nodes")
async def zone_audit(
    request: Request, backend: BackendDep, sight: SightDep, wanted: WantedDep
) -> ZoneAudit:
    """Newest first, each line with the node that wrote it: the one that was asked, and, for
    what others did for it, those too. Nodes that do not answer are named with the reason."""
    reports = await read_reports(backend.store)
    nodes = await backend.store.list(f"{ROOT}{Kind.NODE}/")
    names = sorted({item.key.rpartition("/")[2] for item in nodes.items} | {backend.node.name})
    answers = await asyncio.gather(
        *(
            _ask(
                request, backend, sight, wanted, name, reports[name].api if name in reports else ""
            )
            for name in names
        )
    )
    lines, more = merged([answer.items for answer in answers], wanted.limit)
    return ZoneAudit(
        items=tuple(lines),
        more=more or any(answer.more for answer in answers),
        unreadable=sum(answer.unreadable for answer in answers),
        errors={answer.node: answer.error for answer in answers if answer.error},
    )


async def _ask(
    request: Request, backend: Backend, sight: Sight, wanted: Wanted, node: str, api: str
) -> NodeAudit:
    if sight.tenant is not None:
        if wanted.tenant not in ("", sight.tenant):
            return NodeAudit(node=node)
        wanted = Wanted(
            wanted.since, wanted.user, sight.tenant, wanted.object, wanted.outcome, wanted.limit
        )
    answer = await _read(request, backend, wanted, node, api)
    if sight.tenant is None:
        return answer
    shown = (shown_to(line, sight.tenant) for line in answer.items)
    items = tuple(line for line in shown if line is not None)
    error = "the node did not answer" if answer.error else None
    return answer.model_copy(update={"items": items, "error": error, "unreadable": 0})


async def _read(
    request: Request, backend: Backend, wanted: Wanted, node: str, api: str
) -> NodeAudit:
    if node == backend.node.name:
        audit = cast(Audit, request.state.audit)
        try:
            found = await asyncio.to_thread(search, audit, node, wanted)
        except OSError as error:
            return NodeAudit(node=node, error=f"cannot read the audit log: {error}")
        return NodeAudit(node=node, items=found.lines, more=found.more, unreadable=found.unreadable)
    if not api:
        return NodeAudit(node=node, error="no plumd has reported from this node yet")
    asked = {
        "since": wanted.since,
        "user": wanted.user,
        "tenant": wanted.tenant,
        "object": wanted.object,
        "outcome": wanted.outcome,
        "limit": str(wanted.limit),
    }
    query = urlencode({key: value for key, value in asked.items() if value})
    who = cast(Principal, request.state.principal)
    headers = [(ON_BEHALF_HEADER.decode(), f"{who.kind} {who.name}")]
    try:
        document = await get_json(
            api, f"/v1/nodes/{node}/audit?{query}", backend.peer_timeout_s, headers
        )
        return NodeAudit.model_validate(document)
    except (PeerError, ValueError) as error:
        return NodeAudit(node=node, error=str(error))
