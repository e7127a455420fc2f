"""The mark of a restore that is under way.

A zone has more keys than fit one transaction of etcd (128 operations), so a
restore writes it in steps. While `keys.RESTORE` exists the store's objects are
half of one state and half of another: nobody changes them (every transaction
compares that the mark is absent), and no node looks at them. Kernels go on
forwarding as they were. Where a restore died the mark stays, until another
one takes over and ends.
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict

from daemon.store.interface import Batch, Item, Store
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import RESTORE

log = logging.getLogger(__name__)


class Mark(BaseModel):
    """Value of keys.RESTORE."""

    model_config = ConfigDict(frozen=True)

    actor: str
    started: str  # RFC 3339
    keys: int
    moved_to: str = ""  # URL of the store the zone is in now


def begins(batch: Batch) -> bool:
    """Whether the batch has the mark of a restore put down."""
    return any(change.key == RESTORE and change.item is not None for change in batch.changes)


async def until_restored(store: Store) -> bool:
    """True if a restore was under way, when it has ended."""
    listing = await store.list(RESTORE)
    if not listing.items:
        return False
    mark = Mark.model_validate_json(listing.items[0].value)
    log.warning("waiting: %s", describe(mark), extra={"step": "watch"})
    async for batch in store.watch([RESTORE], listing.revision):
        if any(change.item is None for change in batch.changes):
            break
    return True


async def check_not_restoring(store: Store) -> None:
    """Raises ZoneError while a restore is under way."""
    item = await store.get(RESTORE)
    if item is not None:
        raise refusal(item)


def refusal(item: Item) -> ZoneError:
    """What the mark says to who wanted to change the store, or to read the whole of it."""
    mark = Mark.model_validate_json(item.value)
    hint = (
        "nothing was changed: ask a plumd of the new store"
        if mark.moved_to
        else "wait until it is done; if it broke off, run `plumctl zone restore FILE --replace` "
        "again: nodes forward as they did"
    )
    return ZoneError(describe(mark), hint, code=CONFLICT)


def describe(mark: Mark) -> str:
    if mark.moved_to:
        return (
            f"the zone has moved to {mark.moved_to} (by {mark.actor} at {mark.started}): "
            "start every plumd with that --store"
        )
    return f"the zone is being restored (begun by {mark.actor} at {mark.started})"
