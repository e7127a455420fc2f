"""Routes over the history of applied revisions."""

from __future__ import annotations

from itertools import islice
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.answers import Applied, Confirmed, History, Revision
from daemon.api.audit import timestamp
from daemon.api.backend import ActorDep, BackendDep
from daemon.api.changes import applied
from daemon.api.errors import RefusedError
from daemon.api.permit import check_plan
from daemon.api.sight import Sight, SightDep
from daemon.store.interface import Store
from daemon.zone import history as zone
from daemon.zone.keys import HISTORY, history_key, seq_of
from daemon.zone.revision import Revision as Recorded

router = APIRouter(prefix="/v1/history", tags=["history"])


class Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    comment: str = Field(default="", max_length=1000)


@router.get("", operation_id="list_history", summary="List applied revisions, newest first")
async def list_history(backend: BackendDep, sight: SightDep, limit: int | None = None) -> History:
    """Without the diffs of their objects."""
    listing = await backend.store.list(HISTORY)
    deadlines = await _deadlines(backend.store)
    found = (
        _answer(shown.summary(), item.mod_revision, deadlines.get(seq_of(item.key)))
        for item in reversed(listing.items)
        if (shown := sight.revision(Recorded.model_validate_json(item.value))) is not None
    )
    return History(items=tuple(islice(found, None if limit is None else max(0, limit))))


@router.get("/{seq}", operation_id="get_revision", summary="Read one revision with its diffs")
async def read_revision(backend: BackendDep, sight: SightDep, seq: int) -> Revision:
    recorded = sight.revision(await zone.get_revision(backend.store, seq))
    if recorded is None:
        raise zone.no_revision(seq)
    item = await backend.store.get(history_key(seq))
    deadlines = await _deadlines(backend.store)
    return _answer(recorded.document(), item.mod_revision if item else 0, deadlines.get(seq))


@router.post(
    "/{seq}/rollback",
    operation_id="rollback",
    summary="Restore the objects as they were right after a revision",
)
async def rollback(
    request: Request,
    backend: BackendDep,
    actor: ActorDep,
    sight: SightDep,
    seq: int,
    body: Rollback | None = None,
) -> Applied:
    """Itself a new revision. 0 is the empty zone. An operator's concerns the own tenant only."""
    body = body or Rollback()
    result = await zone.rollback(
        backend.store,
        seq,
        actor=actor,
        dry_run=body.dry_run,
        comment=body.comment,
        tenant=sight.tenant,
        permit=check_plan(sight),
    )
    return applied(request, result, body.dry_run)


@router.post("/{seq}/confirm", operation_id="confirm", summary="Keep a revision for good")
async def confirm(request: Request, backend: BackendDep, sight: SightDep, seq: int) -> Confirmed:
    """For revisions applied with `confirm_s`."""
    if sight.tenant is not None:
        await _check_own(backend.store, sight, seq)
    await zone.confirm(backend.store, seq)
    request.state.summary = f"revision {seq} confirmed"
    return Confirmed(seq=seq)


async def _check_own(store: Store, sight: Sight, seq: int) -> None:
    recorded = await zone.get_revision(store, seq)
    if sight.revision(recorded) is None:
        raise zone.no_revision(seq)
    if not sight.is_own(recorded):
        hint = "an administrator of the zone can"
        raise RefusedError(f"revision {seq} is not yours alone to confirm", hint)


async def _deadlines(store: Store) -> dict[int, float]:
    return {pending.seq: pending.deadline for pending in await zone.pending_confirms(store)}


def _answer(document: dict[str, Any], revision: int, deadline: float | None) -> Revision:
    return Revision.model_validate(
        {
            **document,
            "revision": revision,
            "time": timestamp(document["at"]),
            "who": document["actor"],
            "confirm_by": timestamp(deadline) if deadline is not None else None,
        }
    )
