"""Routes over the connections that rules with a log decided: of one node, and of all."""

from __future__ import annotations

import asyncio
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query

from daemon.api.answers import NodePolicyLog, PolicyLogLine, ZonePolicyLog
from daemon.api.backend import Backend, BackendDep
from daemon.api.client import PeerError
from daemon.api.node import check_node
from daemon.api.sight import Sight, SightDep
from daemon.compiler.tiers import is_admin_rule
from daemon.model.object import Kind
from daemon.zone.keys import ROOT

router = APIRouter(prefix="/v1", tags=["policy"])

MAX_LINES = 10_000
Text = Annotated[str, Query(max_length=300)]


class Wanted:
    """Which lines are asked for."""

    def __init__(
        self,
        tenant: Text = "",
        domain: Annotated[str, Query(max_length=300, description="TENANT/DOMAIN")] = "",
        rule: Annotated[
            str, Query(max_length=300, description="POLICY/DIRECTION/RULE, or a part from its end")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LINES, description="The newest so many")] = 1000,
    ) -> None:
        self.tenant, self.domain, self.rule, self.limit = tenant, domain, rule, limit

    def fits(self, line: PolicyLogLine) -> bool:
        if self.tenant and line.domain.partition("/")[0] != self.tenant:
            return False
        if self.domain and line.domain != self.domain:
            return False
        return not self.rule or f"/{line.rule}".endswith(f"/{self.rule}")


WantedDep = Annotated[Wanted, Depends()]


@router.get(
    "/nodes/{node}/policy-log", operation_id="node_policy_log", summary="Policy log of one node"
)
async def node_policy_log(
    backend: BackendDep, sight: SightDep, wanted: WantedDep, node: str, after: int = 0
) -> NodePolicyLog:
    """Oldest first. `after`: only lines with a higher number. A node that cannot be asked:
    `error` says why."""
    await check_node(backend, node)
    return await _ask(backend, sight, wanted, node, after)


@router.get("/policy-log", operation_id="policy_log", summary="Policy log of all nodes")
async def policy_log(
    backend: BackendDep,
    sight: SightDep,
    wanted: WantedDep,
    after: Annotated[
        list[str], Query(description="NODE:NUMBER, as `read` of the last answer")
    ] = [],  # noqa: B006
) -> ZonePolicyLog:
    """Oldest first. A node that does not answer in time is named with its error."""
    marks = dict(_mark(text) for text in after)
    nodes = await backend.store.list(f"{ROOT}{Kind.NODE}/")
    names = sorted({item.key.rpartition("/")[2] for item in nodes.items} | {backend.node.name})
    answers = await asyncio.gather(
        *(_ask(backend, sight, wanted, name, marks.get(name, 0)) for name in names)
    )
    lines = sorted((line for one in answers for line in one.items), key=lambda line: line.time)
    return ZonePolicyLog(
        items=tuple(lines[-wanted.limit :]),
        read=tuple(f"{one.node}:{max(one.read, marks.get(one.node, 0))}" for one in answers),
        errors={one.node: one.error for one in answers if one.error},
    )


def _mark(text: str) -> tuple[str, int]:
    node, _, number = text.partition(":")
    return node, int(number) if number.isascii() and number.isdigit() else 0


async def _ask(
    backend: Backend, sight: Sight, wanted: Wanted, node: str, after: int
) -> NodePolicyLog:
    if sight.tenant is not None:  # before the limit: others' lines must not push them out
        if wanted.tenant not in ("", sight.tenant):
            return NodePolicyLog(node=node)
        wanted = Wanted(sight.tenant, wanted.domain, wanted.rule, wanted.limit)
    answer = await _read(backend, wanted, node, after)
    items = tuple(line for line in answer.items if _is_shown(line, sight))
    error = answer.error if sight.tenant is None or not answer.error else "the node did not answer"
    return answer.model_copy(update={"items": items, "error": error})


def _is_shown(line: PolicyLogLine, sight: Sight) -> bool:
    if is_admin_rule(line.rule) and not sight.administers:
        return False
    return sight.sees_path(line.domain)


async def _read(backend: Backend, wanted: Wanted, node: str, after: int) -> NodePolicyLog:
    if node == backend.node.name:
        lines = [line for line in backend.node.policy_log(after) if wanted.fits(line)]
        read = backend.node.policy_log_read()
        return NodePolicyLog(node=node, items=tuple(lines[-wanted.limit :]), read=read)
    query = urlencode(
        {
            "tenant": wanted.tenant,
            "domain": wanted.domain,
            "rule": wanted.rule,
            "limit": wanted.limit,
            "after": after,
        }
    )
    target = f"/v1/nodes/{node}/policy-log?{query}"
    try:
        document = await backend.peers.get_json(node, target, backend.peer_timeout_s)
        return NodePolicyLog.model_validate(document)
    except (PeerError, ValueError) as error:
        return NodePolicyLog(node=node, error=str(error))
