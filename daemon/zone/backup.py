"""A zone's keys into a backup, and back.

A restore ends with exactly what the backup holds, or is continued: it puts down
`keys.RESTORE` (see `restoring`), writes what differs in steps that each compare
that mark, and takes it away together with the last one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError

from daemon.model.backup import Header
from daemon.model.object import OBJECT_TYPES, Kind
from daemon.store.interface import Compare, Delete, Item, Put, Store
from daemon.zone.counters import Counters
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import AUTHORITY, CERTIFICATES, IDENTITY, RESTORE, ROOT, ZONE, split_key
from daemon.zone.restoring import Mark, refusal

#: Kept out of backups: what nodes say of themselves and renew, elections, and invitations
#: to join, which are single-use and would be usable twice.
_NAMES = ("status/", "alive/", "leader/", "liveness/", "mesh/", "join/", "restore")
#: An older authority than the nodes have in their trust folders would lock all of them out.
VOLATILE = (AUTHORITY, *(f"{ROOT}{name}" for name in _NAMES))
#: A node that has a certificate now keeps it: it may have been renewed since the backup, and
#: the node would be locked out.
NODES = f"{ROOT}{Kind.NODE}/"
#: Of one transaction. etcd allows 128 operations and 1.5 MiB unless told otherwise.
STEP_OPERATIONS = 100
STEP_BYTES = 1_000_000
#: Others may write besides the zone's transactions (a token, say) until they see the mark.
ROUNDS = 10

Clock = Callable[[], float]
Writes = list[Put | Delete]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    keys: int  # in the backup
    written: int
    deleted: int
    revision: int  # of the store: wait for this one


async def take(store: Store, version: str, clock: Clock = time.time) -> tuple[Header, list[Item]]:
    """Everything that lasts, as it was together at one revision. Raises ZoneError."""
    listing = await store.list(ROOT)
    for item in listing.items:
        if item.key == RESTORE:
            raise refusal(item)
    items = [item for item in listing.items if lasts(item)]
    zone = next((_zone_id(item.value) for item in items if item.key == IDENTITY), "")
    header = Header(
        zone=zone,
        revision=listing.revision,
        created=_time(clock),
        plum=version,
        keys=len(items),
    )
    return header, items


async def restore(
    store: Store,
    backup: Mapping[str, bytes],
    *,
    actor: str,
    replace: bool = False,
    other_zone: bool = False,
    clock: Clock = time.time,
) -> Restored:
    """Bring the store to what the backup holds. Nothing is written unless all of it can be.

    Into a store that holds a zone already only with `replace`, which also takes over
    where a restore broke off; into another zone only with `other_zone`, and that one
    keeps its identity and its nodes' certificates. Raises ZoneError.
    """
    _check_content(backup)
    listing = await store.list(ROOT)
    present = {item.key: item for item in listing.items}
    _check_target(present, backup, replace, other_zone)
    wanted = _wanted(present, backup)
    mark = Mark(actor=actor, started=_time(clock), keys=len(backup))
    place = await _put_mark(store, present.get(RESTORE), mark)
    written = deleted = 0
    for _ in range(ROUNDS):
        now = await store.list(ROOT)
        writes = _difference(now.items, wanted)
        if not writes:
            revision = await _end(store, place)
            return Restored(len(backup), written, deleted, revision)
        for step in _steps(writes):
            if not (await store.commit([place], step)).succeeded:
                raise _taken_over()
        written += sum(isinstance(write, Put) for write in writes)
        deleted += sum(isinstance(write, Delete) for write in writes)
    raise ZoneError(
        f"others wrote to the zone {ROUNDS} times while it was restored",
        "the zone waits: end what writes to the store, then run the restore again with --replace",
        code=CONFLICT,
    )


def _check_content(backup: Mapping[str, bytes]) -> None:
    for key, value in backup.items():
        if not key.startswith(ROOT) or key.startswith(VOLATILE):
            raise ZoneError(
                f"the backup has a key that belongs into none: {key}",
                "nothing was changed; use a file that `plumctl zone backup` wrote",
            )
        try:
            if (place := split_key(key)) is not None:
                OBJECT_TYPES[place[0]].model_validate_json(value)
            elif key == ZONE:
                Counters.model_validate_json(value)
        except ValidationError as error:
            raise ZoneError(
                f"this Plum does not understand {key} of the backup: {error.errors()[0]['msg']}",
                "nothing was changed; restore with the Plum that wrote it, or a later one",
            ) from error


def _check_target(
    present: Mapping[str, Item], backup: Mapping[str, bytes], replace: bool, other_zone: bool
) -> None:
    """A store without a zone or the backup's own, and the user's word for the rest."""
    own, theirs = present.get(IDENTITY), backup.get(IDENTITY)
    if own is not None:
        own_id, their_id = _zone_id(own.value), _zone_id(theirs) if theirs else "none"
        if own_id != their_id and not other_zone:
            raise ZoneError(
                f"the backup is of zone {their_id}, the store holds zone {own_id}",
                "nothing was changed; give --other-zone to have its objects in this zone",
                code=CONFLICT,
            )
    there = present.get(RESTORE)
    moved = there is not None and Mark.model_validate_json(there.value).moved_to
    if there is not None and (moved or not replace):
        raise refusal(there)
    if replace:
        return
    held = [item for item in present.values() if lasts(item) and item.key != IDENTITY]
    if held:
        raise ZoneError(
            f"the store holds a zone already ({len(held)} keys)",
            "nothing was changed; give --replace to have the backup in its place",
            code=CONFLICT,
        )


def _wanted(present: Mapping[str, Item], backup: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the store is to hold at the end."""
    wanted = dict(backup)
    own = present.get(IDENTITY)
    if own is not None and own.value != backup.get(IDENTITY):  # certificates are a zone's own
        wanted = {k: v for k, v in wanted.items() if not k.startswith(CERTIFICATES)}
        wanted[IDENTITY] = own.value
    for key, item in present.items():
        if key.startswith(CERTIFICATES) and f"{NODES}{key.removeprefix(CERTIFICATES)}" in backup:
            wanted[key] = item.value
    if (zone := present.get(ZONE)) is not None:  # what was given once is never given again
        now, then = (
            Counters.model_validate_json(value) if value else Counters()
            for value in (zone.value, backup.get(ZONE))
        )
        highest = {name: max(getattr(now, name), getattr(then, name)) for name in _GIVEN_ONCE}
        wanted[ZONE] = then.model_copy(update=highest).model_dump_json().encode()
    return wanted


#: Counters of numbers; `seq` is that of the history, which comes from the backup.
_GIVEN_ONCE = tuple(name for name in Counters.model_fields if name != "seq")


def _difference(items: Sequence[Item], wanted: Mapping[str, bytes]) -> Writes:
    present = {item.key: item.value for item in items if lasts(item)}
    writes: Writes = [Delete(key) for key in present if key not in wanted]
    writes += [Put(key, value) for key, value in wanted.items() if present.get(key) != value]
    return writes


def _steps(writes: Writes) -> Iterator[Writes]:
    step: Writes = []
    size = 0
    for write in writes:
        weight = len(write.key) + (len(write.value) if isinstance(write, Put) else 0)
        if step and (len(step) == STEP_OPERATIONS or size + weight > STEP_BYTES):
            yield step
            step, size = [], 0
        step.append(write)
        size += weight
    if step:
        yield step


async def _put_mark(store: Store, there: Item | None, mark: Mark) -> Compare:
    """Returns what every step compares: two restores never mix."""
    before = Compare(RESTORE, there.mod_revision if there else 0)
    # Distinct also for two restores of the same moment: one of them must lose.
    value = mark.model_dump_json()[:-1] + f',"id":"{uuid.uuid4()}"}}'
    if not (await store.commit([before], [Put(RESTORE, value.encode())])).succeeded:
        raise _taken_over()
    item = await store.get(RESTORE)
    if item is None or item.value != value.encode():
        raise _taken_over()
    return Compare(RESTORE, item.mod_revision)


async def _end(store: Store, place: Compare) -> int:
    """Take the mark away. The counters are written again, so that who read meanwhile reads anew."""
    zone = await store.get(ZONE)
    value = zone.value if zone else Counters().model_dump_json().encode()
    committed = await store.commit([place], [Delete(RESTORE), Put(ZONE, value)])
    if not committed.succeeded:
        raise _taken_over()
    return committed.revision


def _taken_over() -> ZoneError:
    return ZoneError(
        "another restore of this zone has begun", "leave it to that one", code=CONFLICT
    )


def lasts(item: Item) -> bool:
    """Whether it is of a zone's backup."""
    return not item.lease and not item.key.startswith(VOLATILE)


def _zone_id(value: bytes) -> str:
    return _Identity.model_validate_json(value).id


class _Identity(BaseModel):
    id: str


def _time(clock: Clock) -> str:
    return datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds")
