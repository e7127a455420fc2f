"""Routes that change objects."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.answers import Applied
from daemon.api.backend import ActorDep, BackendDep
from daemon.api.permit import check_named, check_plan
from daemon.api.sight import SightDep
from daemon.model.manifest import read_manifests
from daemon.model.object import Kind, Ref
from daemon.model.problem import Problem
from daemon.zone import apply as zone
from daemon.zone.apply import MAX_CONFIRM_S
from daemon.zone.errors import ZoneError
from daemon.zone.transact import Result

router = APIRouter(prefix="/v1", tags=["changes"])


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Apply(Question):
    objects: list[dict[str, Any]] = Field(description="Manifests")
    dry_run: bool = False
    confirm_s: float | None = Field(
        default=None,
        description=f"Revert after these seconds unless confirmed; at most {MAX_CONFIRM_S}",
    )
    comment: str = Field(default="", max_length=1000)


class RefQuestion(Question):
    kind: Kind
    path: str


class Delete(Question):
    refs: list[RefQuestion]
    dry_run: bool = False
    comment: str = Field(default="", max_length=1000)


@router.post("/apply", operation_id="apply", summary="Bring objects to what manifests say")
async def apply(
    request: Request, backend: BackendDep, actor: ActorDep, sight: SightDep, body: Apply
) -> Applied:
    """All of them or none; everything that is wrong is reported at once."""
    parsed = read_manifests(body.objects)
    refs = [*(manifest.ref for manifest in parsed.manifests), *parsed.broken]
    request.state.objects = [ref.text for ref in refs]
    check_named(sight, refs)
    result = await zone.apply(
        backend.store,
        parsed,
        actor=actor,
        dry_run=body.dry_run,
        confirm_s=body.confirm_s,
        comment=body.comment,
        tenant=sight.tenant,
        permit=check_plan(sight),
    )
    return applied(request, result, body.dry_run)


@router.post("/delete", operation_id="delete", summary="Delete objects together")
async def delete(
    request: Request, backend: BackendDep, actor: ActorDep, sight: SightDep, body: Delete
) -> Applied:
    """Refused while something that stays refers to one of them."""
    refs: list[Ref] = []
    problems: list[Problem] = []
    for asked in body.refs:
        try:
            refs.append(Ref.parse(asked.kind, asked.path))
        except ValueError as error:
            problems.append(Problem(f"{asked.kind} {asked.path}", str(error)))
    if problems:
        raise ZoneError("not every path names an object", "correct them", problems)
    request.state.objects = [ref.text for ref in refs]
    check_named(sight, refs)
    result = await zone.delete(
        backend.store,
        refs,
        actor=actor,
        dry_run=body.dry_run,
        comment=body.comment,
        permit=check_plan(sight),
    )
    return applied(request, result, body.dry_run)


def applied(request: Request, result: Result, dry_run: bool) -> Applied:
    """The answer; what was done also goes to the audit log."""
    done = "would do" if dry_run else f"revision {result.history}"
    request.state.objects = [change.ref.text for change in result.changes]
    counts: dict[str, int] = {}
    for change in result.changes:
        counts[str(change.action)] = counts.get(str(change.action), 0) + 1
    said = ", ".join(f"{count} {action}" for action, count in counts.items())
    request.state.summary = f"{done}: {said or 'nothing'}"
    return Applied.model_validate(result.document())
