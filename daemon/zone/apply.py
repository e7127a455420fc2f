"""Apply manifests, delete objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

from daemon.model.manifest import Parsed
from daemon.model.object import Ref
from daemon.store.interface import Store
from daemon.zone.errors import ZoneError
from daemon.zone.plan import make_plan
from daemon.zone.revision import Verb
from daemon.zone.transact import Clock, Permit, Result, Work, ZoneState, transact

MAX_CONFIRM_S = 86_400


async def apply(
    store: Store,
    parsed: Parsed,
    *,
    actor: str,
    dry_run: bool = False,
    confirm_s: float | None = None,
    comment: str = "",
    tenant: str | None = None,
    permit: Permit | None = None,
    clock: Clock = time.time,
) -> Result:
    """Bring the objects of the manifests to what they say: all of them, or none.

    Takes what `read_manifests` returned, problems included, so that everything
    wrong is reported together. `tenant`: of the operator who asks. Raises ZoneError.
    """
    if confirm_s is not None and not 1 <= confirm_s <= MAX_CONFIRM_S:
        raise ZoneError(f"the time to confirm must be 1 to {MAX_CONFIRM_S} seconds")

    async def prepare(state: ZoneState) -> Work:
        # Pure and up to a second long for a thousand objects: not on the event loop.
        plan = await asyncio.to_thread(
            make_plan,
            state.snapshot,
            state.counters,
            parsed.manifests,
            problems=parsed.problems,
            broken=parsed.broken,
        )
        return Work(plan, comment)

    return await transact(
        store,
        prepare,
        actor=actor,
        verb=Verb.APPLY,
        dry_run=dry_run,
        confirm_s=confirm_s,
        tenant=tenant,
        permit=permit,
        clock=clock,
    )


async def delete(
    store: Store,
    refs: Iterable[Ref],
    *,
    actor: str,
    dry_run: bool = False,
    comment: str = "",
    permit: Permit | None = None,
    clock: Clock = time.time,
) -> Result:
    """Delete these objects together. Refused while something that stays refers to one."""
    removed: Sequence[Ref] = tuple(refs)

    async def prepare(state: ZoneState) -> Work:
        plan = await asyncio.to_thread(make_plan, state.snapshot, state.counters, (), removed)
        return Work(plan, comment)

    return await transact(
        store,
        prepare,
        actor=actor,
        verb=Verb.DELETE,
        dry_run=dry_run,
        permit=permit,
        clock=clock,
    )
