"""The one way a change of the zone is written.

Read the zone, plan in pure code, commit. Every commit compares and writes
`keys.ZONE`, so of several writers one wins and the others plan again on what
it left: checks and allocations always hold for the state they are written to.
One key and one compare replace a claim for every address, slot, MAC and VNI;
they also cover what no claim can (a bridge removed while an endpoint is put
on it), and a transaction stays small enough for etcd.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from daemon.model.object import Kind
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Compare, Delete, Put, Store
from daemon.zone.check_zone import names
from daemon.zone.counters import Counters
from daemon.zone.errors import CONFLICT, Problems, ZoneError
from daemon.zone.keys import RESTORE, ZONE, confirm_key, history_key, object_key
from daemon.zone.placement import placement_writes
from daemon.zone.plan import Change, Plan
from daemon.zone.read import decode, encode, read_current, remember, replaced
from daemon.zone.restoring import check_not_restoring
from daemon.zone.revision import Pending, Revision, Verb, record
from daemon.zone.users import members

ATTEMPTS = 100
MAX_PAUSE_S = 0.25

Clock = Callable[[], float]
#: Raises an error of its caller if a plan does what is not allowed.
Permit = Callable[[Plan], None]


@dataclass(frozen=True, slots=True)
class ZoneState:
    """The objects and counters a plan starts from."""

    snapshot: Snapshot
    counters: Counters
    mod_revision: int  # of keys.ZONE: what the commit compares


@dataclass(frozen=True, slots=True)
class Work:
    """What one attempt is to write."""

    plan: Plan
    comment: str
    compares: tuple[Compare, ...] = ()
    writes: tuple[Put | Delete, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """`history` is the new revision's number; None if nothing had to change or on a dry run."""

    history: int | None
    revision: int  # of the store: wait for this one
    changes: tuple[Change, ...]

    def document(self) -> dict[str, object]:
        """The API's answer."""
        changes = [change.document() for change in self.changes]
        return {"history": self.history, "revision": self.revision, "changes": changes}


async def read_zone(store: Store) -> ZoneState:
    """Objects and counters of one moment, else a plan would find problems that never were."""
    item, snapshot = await read_current(store)
    counters = Counters.model_validate_json(item.value) if item else Counters()
    return ZoneState(snapshot, counters, item.mod_revision if item else 0)


async def transact(
    store: Store,
    prepare: Callable[[ZoneState], Awaitable[Work]],
    *,
    actor: str,
    verb: Verb,
    of: int | None = None,
    dry_run: bool = False,
    confirm_s: float | None = None,
    tenant: str | None = None,
    permit: Permit | None = None,
    clock: Clock = time.time,
) -> Result:
    """Plan and commit until nobody was faster. Raises ZoneError when it stays that way.

    `tenant`: of the operator who asks; None for everybody else.
    """
    for attempt in range(ATTEMPTS):
        state = await read_zone(store)
        work = await prepare(state)
        effective = work.plan.effective
        if permit is not None:
            permit(work.plan)
        unused = await _check_no_members(store, effective)
        if dry_run or not (effective or work.writes):
            return Result(None, state.snapshot.revision, work.plan.changes)
        compares = (
            Compare(ZONE, state.mod_revision),
            Compare(RESTORE, 0),
            *work.compares,
            *unused,
        )
        writes: list[Put | Delete] = [*work.writes]
        seq, counters = work.plan.counters.seq, b""
        if effective:
            now = clock()
            revision = Revision(
                seq=seq,
                at=now,
                actor=actor,
                verb=verb,
                comment=work.comment,
                of=of,
                changes=record(effective),
            )
            writes += _object_writes(effective)
            writes += placement_writes(state.snapshot, effective)
            counters = work.plan.counters.model_dump_json().encode()
            writes.append(Put(ZONE, counters))
            writes.append(Put(history_key(seq), revision.model_dump_json().encode()))
            if confirm_s is not None:
                pending = Pending(seq=seq, deadline=now + confirm_s, actor=actor, tenant=tenant)
                writes.append(Put(confirm_key(seq), pending.model_dump_json().encode()))
        committed = await store.commit(compares, writes)
        if committed.succeeded:
            if effective:
                _remember(store, state.snapshot, committed.revision, counters, effective)
            return Result(seq if effective else None, committed.revision, work.plan.changes)
        await check_not_restoring(store)
        await asyncio.sleep(random.uniform(0, min(0.002 * 2 ** min(attempt, 10), MAX_PAUSE_S)))
    raise ZoneError(
        f"others changed the zone {ATTEMPTS} times while this was being prepared",
        "nothing was written; try again",
        code=CONFLICT,
    )


async def _check_no_members(store: Store, changes: Sequence[Change]) -> list[Compare]:
    """A tenant that goes has no users: one of them would be operator of a later tenant of
    that name. Returns what must still hold at the commit. Raises ZoneError."""
    problems = Problems()
    compares: list[Compare] = []
    for change in changes:
        if change.ref.kind is Kind.TENANT and change.after is None:
            found, compare = await members(store, change.ref.name)
            compares.append(compare)
            if found:
                message = f"still has user{'s' if len(found) > 1 else ''} {names(found)}"
                problems.add(change.ref.text, message, conflict=True)
    problems.raise_any()
    return compares


def _object_writes(changes: Sequence[Change]) -> list[Put | Delete]:
    return [
        Put(object_key(change.ref), encode(change.after))
        if change.after is not None
        else Delete(object_key(change.ref))
        for change in changes
    ]


def _remember(
    store: Store, before: Snapshot, revision: int, counters: bytes, changes: Sequence[Change]
) -> None:
    """Objects as they will be read: decoded, and so the very same as a watcher's."""
    after = {
        change.ref: decode(change.ref.kind, encode(change.after)) if change.after else None
        for change in changes
    }
    remember(store, revision, counters, replaced(before, revision, after))
