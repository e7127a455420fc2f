"""Moving a zone from one store to another.

The old store gets the mark of `restoring` and keeps it for good: nobody changes what
has moved, and nodes that still look there go on forwarding as they were until they
are told of the new store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from daemon.store.interface import Compare, Delete, Put, Store
from daemon.zone import backup
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import AUTHORITY, IDENTITY, RESTORE, ROOT
from daemon.zone.restoring import Mark, describe

#: Users and tokens may be written until their plumd stops; each round takes what is new.
ROUNDS = 10

Clock = Callable[[], float]


async def migrate(
    source: Store, target: Store, to: str, *, actor: str, clock: Clock = time.time
) -> backup.Restored:
    """Everything that lasts, to an empty store; compared key by key before it counts.

    `to`: the target's URL, as people are told it. What broke off is taken up again.
    Raises ZoneError: then the old store is in use as before.
    """
    place, again = await _close(source, to, actor, clock)
    try:
        return await _copy(source, target, actor, again)
    except BaseException:
        if not again:
            await source.commit([place], [Delete(RESTORE)])
        raise


async def _close(source: Store, to: str, actor: str, clock: Clock) -> tuple[Compare, bool]:
    """Put the mark on the old store. True: it is there already, of this very move."""
    item = await source.get(RESTORE)
    if item is not None:
        mark = Mark.model_validate_json(item.value)
        if mark.moved_to != to:
            raise ZoneError(describe(mark), "nothing was changed", code=CONFLICT)
        return Compare(RESTORE, item.mod_revision), True
    if not (await source.list(ROOT)).items:
        raise ZoneError("the old store holds no zone", "nothing was changed; check its URL")
    now = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds")
    mark = Mark(actor=actor, started=now, keys=0, moved_to=to)
    put = await source.commit(
        [Compare(RESTORE, 0)], [Put(RESTORE, mark.model_dump_json().encode())]
    )
    if not put.succeeded:
        raise ZoneError("another restore or move has begun", "leave it to that one", code=CONFLICT)
    return Compare(RESTORE, put.revision), False


async def _copy(source: Store, target: Store, actor: str, again: bool) -> backup.Restored:
    await _check_target(source, target, again)
    for round_ in range(ROUNDS):
        wanted = await _lasting(source)
        restored = await backup.restore(target, wanted, actor=actor, replace=again or round_ > 0)
        if await _lasting(target) == wanted == await _lasting(source):
            await _move_authority(source, target)
            return restored
    raise ZoneError(
        f"the old store was written to in each of {ROUNDS} rounds",
        "stop the plumds that use it, empty the new store, then try again",
        code=CONFLICT,
    )


async def _move_authority(source: Store, target: Store) -> None:
    """No backup has it. While the mark is there nobody writes it."""
    ours, theirs = await source.get(AUTHORITY), await target.get(AUTHORITY)
    if ours is not None and (theirs is None or theirs.value != ours.value):
        compare = Compare(AUTHORITY, theirs.mod_revision if theirs else 0)
        await target.commit([compare], [Put(AUTHORITY, ours.value)])


async def _check_target(source: Store, target: Store, again: bool) -> None:
    """With `again` what is there must be what we left there: the same zone's."""
    if not again:
        return  # restore refuses a store that holds a zone
    ours, theirs = await source.get(IDENTITY), await target.get(IDENTITY)
    if theirs is not None and (ours is None or ours.value != theirs.value):
        raise ZoneError(
            "the new store holds another zone", "nothing was changed; check its URL", code=CONFLICT
        )


async def _lasting(store: Store) -> dict[str, bytes]:
    return {item.key: item.value for item in (await store.list(ROOT)).items if backup.lasts(item)}
