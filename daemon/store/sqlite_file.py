"""Opening the SQLite file: format, durability, and errors in plain words.

One schema, numbered by `PRAGMA user_version`. `item` is the state, `change` the
log watches read, `lease` the deadlines. A file that is not ours, damaged, or
newer than this program is refused before anything in it is touched.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from daemon.store.interface import StoreError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x504C554D  # "PLUM", at offset 68 of the file; file(1) shows it
BUSY_TIMEOUT_S = 10.0

_SCHEMA = (
    # The one row everything is numbered by. `compacted`: changes up to here are gone.
    "CREATE TABLE meta (revision INTEGER NOT NULL, compacted INTEGER NOT NULL)",
    "INSERT INTO meta VALUES (0, 0)",
    """CREATE TABLE item (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL,
        mod_revision INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX item_of_lease ON item (lease, key) WHERE lease != 0",
    # value NULL: the key was deleted. seq: order inside the revision.
    """CREATE TABLE change (
        revision INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, value BLOB,
        create_revision INTEGER NOT NULL, lease INTEGER NOT NULL,
        PRIMARY KEY (revision, seq)) WITHOUT ROWID""",
    # AUTOINCREMENT: an id is never given twice, so a stale one never names another's lease.
    """CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_s REAL NOT NULL, deadline REAL NOT NULL)""",
    "CREATE INDEX lease_by_deadline ON lease (deadline)",
)

_EXPLAINED = (  # prefix of SQLite's error name -> what it means to an operator
    ("SQLITE_FULL", "the disk is full; nothing was written: free space and try again"),
    ("SQLITE_READONLY", "the file or its directory is read-only: check owner, mode and mount"),
    ("SQLITE_NOTADB", "this is not a SQLite file: check the path, or restore a backup"),
    ("SQLITE_CORRUPT", "the file is damaged: restore a backup"),
    ("SQLITE_BUSY", f"another process held the file for {BUSY_TIMEOUT_S:.0f} s; nothing written"),
    ("SQLITE_CANTOPEN", "it cannot be opened: check that the directory exists and is writable"),
    ("SQLITE_IOERR", "the disk or file system failed: see the kernel log"),
)


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    """The StoreError an operator can act on, for what SQLite said."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    for prefix, meaning in _EXPLAINED:
        if name.startswith(prefix):
            return StoreError(f"store {path}: {meaning} ({name}: {error})")
    return StoreError(f"store {path}: {name}: {error}")


def create_or_check(path: Path) -> None:
    """Make the file if there is none, and refuse one that is not a sound store of ours.

    Raises StoreError; sqlite3.Error is left to the caller's `explain`.
    """
    try:
        # Keys are the whole zone's state: owner only. mknod and not open: closing a
        # descriptor would drop the POSIX locks of this process's other connections.
        os.mknod(path, stat.S_IFREG | 0o600)
        _sync_directory(path.parent)
    except FileExistsError:
        if not path.is_file():
            raise StoreError(f"store {path}: this is not a regular file") from None
    except OSError as error:
        raise StoreError(f"store {path}: it cannot be created: {error.strerror}") from error
    with closing(_open(path)) as connection:
        connection.execute("BEGIN")
        ours = _is_ours(path, connection)
        connection.execute("COMMIT")
        if not ours:
            _create(path, connection)
        _enter_wal(path, connection)  # a restored backup need not be in this mode
        connection.execute("BEGIN IMMEDIATE")  # fails now, not at the first write, if read-only
        connection.execute("ROLLBACK")
        findings = connection.execute("PRAGMA quick_check(1)").fetchone()
        if findings != ("ok",):
            raise StoreError(f"store {path}: the file is damaged: restore a backup ({findings})")


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits survive kill -9 and power loss. Used by one thread only."""
    connection = _open(path)
    # WAL + FULL: the log is synced at every commit, before it is acknowledged
    # (sqlite.org/pragma.html#pragma_synchronous; NORMAL would not do that).
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA journal_size_limit=67108864")
    return connection


def begin_writing(connection: sqlite3.Connection) -> None:
    """BEGIN IMMEDIATE, waiting BUSY_TIMEOUT_S at most for other processes.

    SQLite's own waiting sleeps up to 100 ms at a time: with four writers p99 was 55 ms.
    """
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
                if not busy or time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0.0002, 0.001))
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode: tells the file from another one put in its place. None: no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that was removed must not be made anew behind everybody's back.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )


def _is_ours(path: Path, connection: sqlite3.Connection) -> bool:
    """False for a file nothing was ever written to; StoreError for one we must not touch.

    Call it inside a transaction: another process may be making the file just now.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return False
    if application != APPLICATION_ID:
        raise StoreError(f"store {path}: this database belongs to another program")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store {path}: written by a newer Plum (schema {version}, this one knows up to "
            f"{SCHEMA_VERSION}): upgrade Plum on this machine"
        )
    return True


def _create(path: Path, connection: sqlite3.Connection) -> None:
    _enter_wal(path, connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_ours(path, connection):  # another process may have been faster
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _enter_wal(path: Path, connection: sqlite3.Connection) -> None:
    """Switching needs the file alone, and SQLite does not wait for that by itself."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up:
                raise
            time.sleep(0.005)
        else:
            if mode != "wal":
                raise StoreError(f"store {path}: its file system cannot share a SQLite file")
            return


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
