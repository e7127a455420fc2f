"""Noticing commits of other processes at once, for next to no CPU at rest.

A committer touches the file's timestamps after its commit is visible; inotify tells
everybody who waits. One that dies between the two still rings: the kernel closes its
descriptors, which is an event as well. (Events of the -wal file would come too early:
it is written and synced before a commit becomes visible.)
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from daemon.store.interface import StoreError
from daemon.store.sqlite_database import Clock, Database
from daemon.store.sqlite_file import explain

log = logging.getLogger(__name__)

# linux/inotify.h
_IN_ATTRIB = 0x4
_IN_CLOSE_WRITE = 0x8
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800

_REST_S = 1.0  # safety net: a clock that jumped, a hand that rang no bell
_POLL_S = 0.025  # without inotify (its per-user limit is reached); 0.01 costs 2 % of a core
_LEASE_GRACE_S = 0.005  # do not spin in the last moment of a lease


class CommitBell:
    """A thread that calls `announce(revision)` for each look that found a new revision.

    It lives while somebody watches. It also ends leases that run out meanwhile.
    `announce(None)`: the store cannot be read; whoever reads it will see why.
    """

    def __init__(
        self,
        path: Path,
        open_database: Callable[[], Database],
        clock: Clock,
        announce: Callable[[int | None], None],
    ) -> None:
        self._path = path
        self._open_database = open_database
        self._clock = clock
        self._announce = announce
        try:
            self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise StoreError(f"store {path}: it cannot be watched: {error.strerror}") from error
        self._ended = False
        self._ending = threading.Lock()  # a closed descriptor's number may be somebody else's
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it closes what it opened."""
        with self._ending:
            if not self._ended:
                os.eventfd_write(self._stop, 1)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        bell = _inotify(self._path)
        try:
            self._listen(bell)
        finally:
            with self._ending:
                self._ended = True
                os.close(self._stop)
            if bell is not None:
                os.close(bell)

    def _listen(self, bell: int | None) -> None:
        ears = select.poll()
        ears.register(self._stop, select.POLLIN)
        if bell is not None:
            ears.register(bell, select.POLLIN)
        database: Database | None = None
        seen: int | None = -1
        wait_s = 0.0
        while True:
            ready = [descriptor for descriptor, _ in ears.poll(wait_s * 1000)]
            if self._stop in ready:
                break
            if bell is not None and bell in ready:
                os.read(bell, 65536)
            try:
                database = database or self._open_database()
                database.expire_leases()
                revision = database.revision()
                wait_s = self._rest(database.next_deadline(), bell)
            except (StoreError, sqlite3.Error) as error:
                shown = explain(self._path, error) if isinstance(error, sqlite3.Error) else error
                if seen is not None:  # once, not every second
                    log.warning("watches cannot follow the store: %s", shown)
                seen = None
                self._announce(None)
                wait_s = _REST_S
                continue
            if revision != seen:
                seen = revision
                self._announce(revision)
        if database is not None:
            database.close()

    def _rest(self, deadline: float | None, bell: int | None) -> float:
        rest_s = _POLL_S if bell is None else _REST_S
        if deadline is None:
            return rest_s
        return min(rest_s, max(deadline - self._clock(), 0.0) + _LEASE_GRACE_S)


def _inotify(path: Path) -> int | None:
    """A descriptor that is readable after commits, or None if the kernel gives none."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor >= 0:
        mask = _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_DELETE_SELF | _IN_MOVE_SELF
        if libc.inotify_add_watch(descriptor, os.fsencode(path), mask) >= 0:
            return descriptor
        os.close(descriptor)
    reason = os.strerror(ctypes.get_errno())
    log.warning("store %s: no inotify (%s), looking every %s s instead", path, reason, _POLL_S)
    return None
