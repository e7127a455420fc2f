"""History: what was applied, back to how it was, and changes that need confirming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from daemon.model.manifest import manifest_of
from daemon.model.object import ZONE_KINDS, Kind, Object, Ref
from daemon.store.interface import Compare, Delete, Store
from daemon.zone.errors import NOT_FOUND, ZoneError
from daemon.zone.keys import CONFIRM, HISTORY, confirm_key, history_key, seq_of
from daemon.zone.plan import Plan, make_plan
from daemon.zone.read import find
from daemon.zone.revision import Pending, Revision, Verb
from daemon.zone.transact import Clock, Permit, Result, Work, ZoneState, transact

Target = dict[Ref, Object | None]  # what objects are to be; None: absent


async def history(store: Store, limit: int | None = None) -> list[Revision]:
    """Applied revisions, newest first."""
    listing = await store.list(HISTORY)
    items = listing.items[::-1] if limit is None else listing.items[::-1][:limit]
    return [Revision.model_validate_json(item.value) for item in items]


async def get_revision(store: Store, seq: int) -> Revision:
    item = await store.get(history_key(seq)) if seq > 0 else None
    if item is None:
        raise no_revision(seq)
    return Revision.model_validate_json(item.value)


def no_revision(seq: int) -> ZoneError:
    """Also for one that the asker is not to see: the two must look the same."""
    hint = "see which there are with plumctl history"
    return ZoneError(f"there is no revision {seq}", hint, code=NOT_FOUND)


async def rollback(
    store: Store,
    seq: int,
    *,
    actor: str,
    dry_run: bool = False,
    comment: str = "",
    tenant: str | None = None,
    permit: Permit | None = None,
    clock: Clock = time.time,
) -> Result:
    """Restore the objects as they were right after revision `seq` (0: the empty zone).

    Undoes all later revisions, itself as a new one. Ids and addresses return to
    what they were where nobody else has them now. `tenant`: only this one's domains
    and endpoints, the rest stays as it is.
    """
    if seq != 0:
        await get_revision(store, seq)

    async def prepare(state: ZoneState) -> Work:
        later = await _revisions_after(store, seq, state)
        target = _undo(later)
        if tenant is not None:
            target = {ref: item for ref, item in target.items() if ref.tenant == tenant}
        plan = await asyncio.to_thread(_plan_target, state, target)
        return Work(plan, comment or f"back to revision {seq}")

    return await transact(
        store,
        prepare,
        actor=actor,
        verb=Verb.ROLLBACK,
        of=seq,
        dry_run=dry_run,
        permit=permit,
        clock=clock,
    )


async def pending_confirms(store: Store) -> list[Pending]:
    """Revisions that wait to be confirmed."""
    listing = await store.list(CONFIRM)
    return [Pending.model_validate_json(item.value) for item in listing.items]


async def due_confirms(store: Store, now: float) -> list[int]:
    """Numbers of those whose deadline (Unix time) has passed: `revert` each."""
    return [pending.seq for pending in await pending_confirms(store) if pending.deadline <= now]


async def confirm(store: Store, seq: int) -> None:
    """Keep a revision. Raises ZoneError if it does not wait for that (any more)."""
    item = await store.get(confirm_key(seq))
    if item is not None:
        compares = [Compare(item.key, item.mod_revision)]
        if (await store.commit(compares, [Delete(item.key)])).succeeded:
            return
    hint = "it was confirmed, has reverted, or was applied without --confirm"
    raise ZoneError(f"revision {seq} does not wait to be confirmed", hint, code=NOT_FOUND)


async def revert(store: Store, seq: int, *, clock: Clock = time.time) -> Result | None:
    """Undo a revision that nobody confirmed; None if it no longer waits.

    Exactly one of several daemons does it: the record that waits is deleted in
    the same transaction, by compare. Objects changed again since stay as they
    are now. If that leaves something dangling, later revisions of the tenants
    concerned are undone too, and if even that does, all later ones. What an
    operator applied is undone within the own tenant, or not: ZoneError.
    """

    async def prepare(state: ZoneState) -> Work:
        item = await store.get(confirm_key(seq))
        if item is None:
            raise _SettledError
        revisions = await _revisions_after(store, seq - 1, state)
        tenant = Pending.model_validate_json(item.value).tenant
        plan = await asyncio.to_thread(_plan_revert, state, revisions, tenant)
        guard = Compare(item.key, item.mod_revision)
        return Work(plan, f"revision {seq} was not confirmed", (guard,), (Delete(item.key),))

    actor = "plumd"
    try:
        return await transact(store, prepare, actor=actor, verb=Verb.REVERT, of=seq, clock=clock)
    except _SettledError:
        return None


class _SettledError(Exception):
    """Somebody else confirmed or reverted it."""


async def _revisions_after(store: Store, seq: int, state: ZoneState) -> list[Revision]:
    """Oldest first, up to the one that made this state."""
    listing = await store.list(HISTORY)
    later = [item for item in listing.items if seq < seq_of(item.key) <= state.counters.seq]
    return [Revision.model_validate_json(item.value) for item in later]


def _undo(revisions: Sequence[Revision]) -> Target:
    target: Target = {}
    for revision in reversed(revisions):
        for recorded in revision.changes:
            target[recorded.ref] = recorded.object_before()
    return target


def _plan_target(state: ZoneState, target: Mapping[Ref, Object | None]) -> Plan:
    wanted = {
        ref: item
        for ref, item in target.items()
        if item is not None and item != find(state.snapshot, ref)
    }
    removed = [ref for ref, item in target.items() if item is None and find(state.snapshot, ref)]
    manifests = [manifest_of(item) for item in wanted.values()]
    return make_plan(state.snapshot, state.counters, manifests, removed, prefer=wanted)


def _plan_revert(state: ZoneState, revisions: Sequence[Revision], tenant: str | None) -> Plan:
    """`revisions`: the one to revert, and all later ones."""
    first, everything = revisions[0], _undo(revisions)
    own: Target = {
        recorded.ref: recorded.object_before()
        for recorded in first.changes
        if find(state.snapshot, recorded.ref) == recorded.object_after()
    }
    owners = {_owner(recorded.ref) for recorded in first.changes}
    if tenant is not None:
        inside = {ref: item for ref, item in everything.items() if ref.tenant == tenant}
        try:
            return _plan_target(state, own)
        except ZoneError:
            return _plan_target(state, inside)
    same_owners = {ref: item for ref, item in everything.items() if _owner(ref) in owners}
    for target in (own, same_owners):
        try:
            return _plan_target(state, target)
        except ZoneError:
            continue  # something later depends on it: undo that as well
    return _plan_target(state, everything)


def _owner(ref: Ref) -> str:
    """Tenants do not refer to each other, nodes and administrators' policies to nobody."""
    if ref.kind is Kind.ADMIN_POLICY:
        return ref.text
    return "" if ref.kind in ZONE_KINDS else ref.tenant or ref.name
