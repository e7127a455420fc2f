"""What the store does to its SQLite file: plain blocking calls on one connection.

Every write is one BEGIN IMMEDIATE transaction, which is also where leases that ran
out are ended, so all processes see them end at the same revision. A `Database`
belongs to the thread that made it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.store.interface import (
    Batch,
    Change,
    Committed,
    CompactedError,
    Compare,
    Delete,
    Item,
    LeaseExpiredError,
    Listing,
    Put,
    StoreError,
    check_writes,
)
from daemon.store.sqlite_file import begin_writing, connect, identity

log = logging.getLogger(__name__)

KEEP_REVISIONS = 10_000
_PAGE_CHANGES = 1_000  # a watch reads its history in pages of about this many changes

Clock = Callable[[], float]  # wall clock, seconds: deadlines are shared by processes


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of history: complete through `through`; `more` follows already."""

    batches: tuple[Batch, ...]
    through: int
    more: bool


class Database:
    """One connection to the file at `path`, which `create_or_check` has accepted."""

    def __init__(self, path: Path, clock: Clock, keep_revisions: int = KEEP_REVISIONS) -> None:
        self._path = path
        self._clock = clock
        self._keep = keep_revisions
        self._connection = connect(path)
        self._identity = identity(path)

    def close(self) -> None:
        self._connection.close()

    def get(self, key: str) -> Item | None:
        self.expire_leases()
        row = self._connection.execute(
            "SELECT key, value, create_revision, mod_revision, lease FROM item WHERE key = ?",
            (key,),
        ).fetchone()
        return None if row is None else Item(*row)

    def list(self, prefix: str) -> Listing:
        self.expire_leases()
        end = _prefix_end(prefix)
        where = "key >= ?" if end is None else "key >= ? AND key < ?"
        with self._snapshot():
            revision, _ = self._meta()
            rows = self._connection.execute(
                "SELECT key, value, create_revision, mod_revision, lease FROM item "
                f"WHERE {where} ORDER BY key",
                (prefix,) if end is None else (prefix, end),
            ).fetchall()
        return Listing(tuple(Item(*row) for row in rows), revision)

    def revision(self) -> int:
        return self._meta()[0]

    def history(self, prefixes: Sequence[str], after: int, keys: Collection[str] = ()) -> Page:
        """Changes of `keys` and of keys under `prefixes` after revision `after`, oldest first."""
        wanted = tuple(prefixes)
        batches: dict[int, list[Change]] = {}
        with self._snapshot():
            through, compacted = self._meta()
            if after < compacted:
                raise CompactedError(
                    f"store {self._path}: changes after revision {after} are no longer kept "
                    f"(oldest: {compacted}): list again and watch from there"
                )
            cursor = self._connection.execute(
                "SELECT revision, key, value, create_revision, lease FROM change "
                "WHERE revision > ? ORDER BY revision, key",
                (after,),
            )
            last = after
            more = False
            for count, (revision, key, value, created, lease) in enumerate(cursor):
                if count >= _PAGE_CHANGES and revision != last:
                    more = True
                    break
                last = revision
                if key.startswith(wanted) or key in keys:
                    item = None if value is None else Item(key, value, created, revision, lease)
                    batches.setdefault(revision, []).append(Change(key, item, revision))
            cursor.close()
        return Page(
            tuple(Batch(tuple(changes), revision) for revision, changes in batches.items()),
            last if more else max(through, after),
            more,
        )

    def commit(self, compares: Sequence[Compare], writes: Sequence[Put | Delete]) -> Committed:
        check_writes(writes)
        missing = 0
        with self._transaction():
            succeeded = all(self._mod_revision(c.key) == c.mod_revision for c in compares)
            if succeeded:
                missing = self._missing_lease(writes)
                if not missing:
                    self._write(writes)
            revision, _ = self._meta()
        if missing:
            raise LeaseExpiredError(f"store {self._path}: lease {missing} does not exist any more")
        return Committed(succeeded, revision)

    def grant(self, ttl_s: float) -> int:
        if not 0 < ttl_s < float("inf"):
            raise StoreError(f"a lease lives for a positive number of seconds, not {ttl_s}")
        with self._transaction() as now:
            lease = self._connection.execute(
                "INSERT INTO lease (ttl_s, deadline) VALUES (?, ?)", (ttl_s, now + ttl_s)
            ).lastrowid
        assert lease is not None
        return lease

    def keep_alive(self, lease: int) -> None:
        with self._transaction() as now:
            found = self._connection.execute(
                "UPDATE lease SET deadline = ? + ttl_s WHERE id = ?", (now, lease)
            ).rowcount
        if not found:
            raise LeaseExpiredError(f"store {self._path}: lease {lease} does not exist any more")

    def revoke(self, lease: int) -> None:
        with self._transaction():
            found = self._end_lease(lease)
        if not found:
            raise LeaseExpiredError(f"store {self._path}: lease {lease} does not exist any more")

    def next_deadline(self) -> float | None:
        """When the first lease runs out, by the wall clock."""
        (deadline,) = self._connection.execute("SELECT min(deadline) FROM lease").fetchone()
        return deadline  # type: ignore[no-any-return]

    def expire_leases(self) -> None:
        """End leases that ran out, if there are any. Readers call it: looking expires."""
        self._check_identity()
        deadline = self.next_deadline()
        if deadline is not None and deadline <= self._clock():
            with self._transaction():
                log.debug("leases up to %s ended", deadline)

    @contextmanager
    def _transaction(self) -> Iterator[float]:
        """Yields the time it happens at. What raises inside leaves nothing behind."""
        self._check_identity()
        before = self._connection.total_changes
        begin_writing(self._connection)
        try:
            now = self._clock()  # after the wait for the lock, so that time follows revisions
            self._end_expired(now)
            yield now
            self._compact()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite rolls back by itself on some errors
                self._connection.execute("ROLLBACK")
            raise
        if self._connection.total_changes != before:
            self._ring()

    def _ring(self) -> None:
        """Wake the watches of other processes: they wait for IN_ATTRIB (see commit_bell)."""
        try:
            os.utime(self._path)
        except OSError as error:  # it is committed all the same; watches look every second
            log.warning("store %s: watches are told late: %s", self._path, error)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._check_identity()
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def _check_identity(self) -> None:
        if identity(self._path) != self._identity:
            raise StoreError(
                f"store {self._path}: the file was removed or replaced while in use: "
                "restart this process"
            )

    def _meta(self) -> tuple[int, int]:
        row = self._connection.execute("SELECT revision, compacted FROM meta").fetchone()
        if row is None:
            raise StoreError(f"store {self._path}: the file is damaged: restore a backup")
        return row[0], row[1]

    def _mod_revision(self, key: str) -> int:
        row = self._connection.execute(
            "SELECT mod_revision FROM item WHERE key = ?", (key,)
        ).fetchone()
        return 0 if row is None else row[0]

    def _missing_lease(self, writes: Sequence[Put | Delete]) -> int:
        for lease in {w.lease for w in writes if isinstance(w, Put) and w.lease}:
            found = self._connection.execute("SELECT 1 FROM lease WHERE id = ?", (lease,))
            if found.fetchone() is None:
                return lease
        return 0

    def _write(self, writes: Sequence[Put | Delete]) -> None:
        created = {}
        for write in writes:
            row = self._connection.execute(
                "SELECT create_revision FROM item WHERE key = ?", (write.key,)
            ).fetchone()
            if row is not None:
                created[write.key] = row[0]
        effective = [w for w in writes if isinstance(w, Put) or w.key in created]
        if not effective:
            return  # deleting what is absent changes nothing and takes no revision
        (revision,) = self._connection.execute(
            "UPDATE meta SET revision = revision + 1 RETURNING revision"
        ).fetchone()
        for seq, write in enumerate(effective):
            if isinstance(write, Put):
                since = created.get(write.key, revision)
                value: bytes | None = write.value
                lease = write.lease
                self._connection.execute(
                    "REPLACE INTO item VALUES (?, ?, ?, ?, ?)",
                    (write.key, value, since, revision, lease),
                )
            else:
                since, value, lease = 0, None, 0
                self._connection.execute("DELETE FROM item WHERE key = ?", (write.key,))
            self._connection.execute(
                "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)",
                (revision, seq, write.key, value, since, lease),
            )

    def _end_expired(self, now: float) -> None:
        for (lease,) in self._connection.execute(
            "SELECT id FROM lease WHERE deadline <= ? ORDER BY deadline, id", (now,)
        ).fetchall():
            self._end_lease(lease)

    def _end_lease(self, lease: int) -> bool:
        """Delete the lease and its keys, in one revision as etcd does."""
        keys = self._connection.execute(
            "SELECT key FROM item WHERE lease = ? AND lease != 0 ORDER BY key", (lease,)
        ).fetchall()
        self._write([Delete(key) for (key,) in keys])
        return self._connection.execute("DELETE FROM lease WHERE id = ?", (lease,)).rowcount > 0

    def _compact(self) -> None:
        """Forget history in strides, so that most commits do not pay for it."""
        revision, compacted = self._meta()
        if revision - compacted > self._keep + self._keep // 10:
            oldest = revision - self._keep
            self._connection.execute("DELETE FROM change WHERE revision <= ?", (oldest,))
            self._connection.execute("UPDATE meta SET compacted = ?", (oldest,))


def _prefix_end(prefix: str) -> str | None:
    """The first text after all that start with `prefix`; None if there is none.

    SQLite compares UTF-8 bytes, which is code point order.
    """
    head = prefix.rstrip("\U0010ffff")
    if not head:
        return None
    last = ord(head[-1])
    return head[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
