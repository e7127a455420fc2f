"""Moving a zone from one store to another.

The old store is only read. The new one gets every lasting key as it was at one
revision (see backup.take), under the mark of a restore, so that nodes started too
early wait; then both are read again and compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.store.interface import Item, Store
from daemon.zone.backup import restore, take
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import IDENTITY, RESTORE, ROOT, ZONE


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a move did."""

    keys: int
    source_revision: int
    revision: int  # of the new store


async def migrate(
    source: Store, target: Store, *, version: str, actor: str, resume: bool = False
) -> Migrated:
    """Bring the zone in `source` into the empty `target`.

    `resume` also takes over where an earlier move into `target` broke off. Nobody may
    write to `source` meanwhile; that somebody did is noticed, and raised, at the end.
    Raises ZoneError, StoreError.
    """
    header, items = await take(source, version)
    if not items:
        raise ZoneError("the old store holds no zone", "check --from", code=CONFLICT)
    present = {item.key: item.value for item in (await target.list(ROOT)).items}
    wanted = {item.key: item.value for item in items}
    broken_off = RESTORE in present
    _check_target(present, wanted, resume=resume)
    restored = await restore(target, wanted, actor=actor, replace=broken_off)
    await _compare(target, wanted, version)
    _, now = await take(source, version)
    if _state(now) != _state(items):
        raise ZoneError(
            "the old store was written to while it was moved; the new one lacks that",
            "stop what writes to the old one, empty the new one, and move again",
            code=CONFLICT,
        )
    return Migrated(len(items), header.revision, restored.revision)


def _check_target(
    present: Mapping[str, bytes], wanted: Mapping[str, bytes], *, resume: bool
) -> None:
    if IDENTITY in present and present[IDENTITY] != wanted.get(IDENTITY):
        raise ZoneError(
            "the new store belongs to another zone",
            "nothing was changed; use an etcd of this zone's own",
            code=CONFLICT,
        )
    if RESTORE in present:
        if not resume:
            raise ZoneError(
                "a move or restore into the new store broke off, or is going on",
                "if it is this zone's and nobody is at it any more, give --resume",
                code=CONFLICT,
            )
        return
    held = sorted(present.keys() - {IDENTITY})
    if held:
        raise ZoneError(
            f"the new store is not empty: {len(held)} keys, the first is {held[0]}",
            "nothing was changed; use an empty one",
            code=CONFLICT,
        )


async def _compare(target: Store, wanted: Mapping[str, bytes], version: str) -> None:
    _, items = await take(target, version)
    found = {item.key: item.value for item in items}
    expected = {ZONE: found.get(ZONE), **wanted}  # a restore makes counters if there are none
    wrong = sorted(k for k in expected.keys() | found.keys() if found.get(k) != expected.get(k))
    if wrong:
        raise ZoneError(
            f"the new store does not hold what was written: {len(wrong)} keys differ, "
            f"the first is {wrong[0]}",
            "somebody else writes to it: do not use it; empty it and move again",
            code=CONFLICT,
        )


def _state(items: Sequence[Item]) -> list[tuple[str, int]]:
    return [(item.key, item.mod_revision) for item in items]
