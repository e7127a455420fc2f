"""The route that waits until nodes have programmed a revision."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query

from daemon.api.answers import Missing, Waited
from daemon.api.backend import BackendDep
from daemon.api.reports import read_reports
from daemon.api.sight import Sight, SightDep
from daemon.model.object import AdminPolicy, Domain, Endpoint, Kind, Node, Object, Ref
from daemon.model.snapshot import Snapshot
from daemon.reconcile.status import STATUS, Exceptional, NodeStatus, State, behind, concerned_nodes
from daemon.store.interface import Store
from daemon.zone.counters import Counters
from daemon.zone.keys import history_key
from daemon.zone.read import read_current
from daemon.zone.revision import Revision

router = APIRouter(prefix="/v1", tags=["status"])

#: How long an error may last before waiting for its end makes no sense.
SETTLE_S = 2.0


@router.get("/wait", operation_id="wait", summary="Wait until a revision is programmed")
async def wait(
    backend: BackendDep,
    sight: SightDep,
    revision: Annotated[int, Query(ge=0)],
    timeout_s: Annotated[float, Query(ge=0, le=3600)] = 30.0,
) -> Waited:
    """Answers when every node concerned has programmed the revision, when only
    errors are left, or after `timeout_s`; then it says what is missing."""
    store = backend.store
    need = await needed(store, revision)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    failing_since: float | None = None
    start = await store.list(STATUS)
    async with aclosing(cast(Any, store.watch([STATUS], start.revision))) as batches:
        coming = asyncio.ensure_future(anext(batches))
        try:
            while True:
                answer = await _look(store, need, sight)
                now = loop.time()
                if answer.pending or not answer.errors:
                    failing_since = None
                elif failing_since is None:
                    failing_since = now
                until = deadline
                if failing_since is not None:
                    until = min(deadline, failing_since + SETTLE_S)
                if answer.done or now >= until:
                    return answer
                done, _ = await asyncio.wait({coming}, timeout=until - now)
                if done:
                    coming.result()
                    coming = asyncio.ensure_future(anext(batches))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Need:
    """What a revision asks of whom."""

    revision: int
    nodes: frozenset[str]
    refs: frozenset[Ref] | None  # objects it changed; None: any

    def concerns(self, exception: Exceptional) -> bool:
        if self.refs is None:
            return True
        ref = Ref.parse(exception.kind, exception.path)
        owner = ref
        if ref.kind is Kind.ENDPOINT and ref.domain:
            owner = Ref(kind=Kind.DOMAIN, tenant=ref.tenant, name=ref.domain)
        return ref in self.refs or owner in self.refs


async def needed(store: Store, revision: int) -> Need:
    """Nodes and objects a store revision concerns.

    A revision that changed nothing asks for the last change before it.
    """
    zone, snapshot = await read_current(store)
    if zone is None:  # nothing was ever applied
        return Need(0, frozenset(), None)
    newest = Counters.model_validate_json(zone.value).seq
    found = await _last_change(store, revision, newest)
    # A change writes its history and keys.ZONE together, the end of a restore only the latter.
    # That one every node hears of, and lists anew.
    if zone.mod_revision <= revision and (found is None or found[1] < zone.mod_revision):
        return Need(zone.mod_revision, frozenset(snapshot.nodes), None)
    if found is None:
        return Need(0, frozenset(), None)
    recorded, at = found
    nodes: set[str] = set()
    for change in recorded.changes:
        for item in (change.object_before(), change.object_after()):
            if item is not None:
                nodes |= _nodes_of(item, snapshot)
    refs = frozenset(change.ref for change in recorded.changes) if at == revision else None
    return Need(at, frozenset(nodes & snapshot.nodes.keys()), refs)


async def _last_change(store: Store, revision: int, newest: int) -> tuple[Revision, int] | None:
    """The last change of the zone up to a store revision, and the one it was written at.

    A node that a change does not concern hears nothing of it and never reports its
    revision, so it must not be asked of all. The history is read from its end.
    """
    for seq in range(newest, 0, -1):
        item = await store.get(history_key(seq))
        if item is None:
            return None
        if item.mod_revision <= revision:
            return Revision.model_validate_json(item.value), item.mod_revision
    return None


def _nodes_of(item: Object, snapshot: Snapshot) -> set[str]:
    """Nodes whose rows depend on an object."""
    match item:
        case Endpoint():
            owner, own = (item.tenant, item.spec.domain), {item.spec.node}
        case Domain():
            owner, own = (item.tenant, item.name), set[str]()
        case AdminPolicy():
            return set(concerned_nodes(item, snapshot.endpoints.values()))
        case Node():
            return set(snapshot.nodes)
        case _:
            return set()
    return own | {
        e.spec.node for e in snapshot.endpoints.values() if (e.tenant, e.spec.domain) == owner
    }


async def _look(store: Store, need: Need, sight: Sight) -> Waited:
    reports = await read_reports(store)
    late = [
        Missing(node=node, kind=Kind.NODE, path=node, state="pending", reason=reason)
        for node in sorted(need.nodes)
        if (reason := _late(reports.get(node), need.revision))
    ]
    found = [
        Missing(
            node=report.node,
            kind=exception.kind,
            path=exception.path,
            state="error" if exception.state is State.ERROR else "pending",
            reason=exception.reason,
        )
        for report in reports.values()
        if report.node in need.nodes
        for exception in report.exceptions
        if need.concerns(exception)
    ]
    shown = [item for item in map(sight.missing, [*late, *found]) if item is not None]
    pending = tuple(item for item in shown if item.state == "pending")
    errors = tuple(item for item in shown if item.state == "error")
    return Waited(
        done=not pending and not errors, revision=need.revision, pending=pending, errors=errors
    )


def _late(report: NodeStatus | None, revision: int) -> str:
    if report is None:
        return "no plumd has reported from this node yet"
    return behind(report, revision) if report.applied_revision < revision else ""
