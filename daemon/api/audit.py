"""The audit log: a JSON line for every change, privileged read and refusal; only appended."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from daemon.api.peer import Peer, TlsPeer
from daemon.api.principal import Principal
from daemon.api.repeats import Repeats

log = logging.getLogger(__name__)

#: A file is closed at this size, and so many closed ones are kept.
MAX_BYTES = 16 << 20
KEPT_FILES = 32
#: Less room than this, and changes are refused before they cannot be written down.
MIN_FREE_BYTES = 1 << 20


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, as the log keeps it."""

    principal: Principal
    peer: Peer | TlsPeer
    method: str
    path: str
    operation: str
    status: int  # HTTP
    objects: tuple[str, ...] = ()  # `endpoint acme/shop/web-1`
    summary: str = ""

    @property
    def outcome(self) -> str:
        if self.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return "refused"
        return "done" if self.status < HTTPStatus.BAD_REQUEST else "failed"

    @property
    def caller(self) -> tuple[object, str]:
        """Who is counted together: a machine or a local user, as which user of the zone."""
        peer = self.peer
        return (peer.uid if isinstance(peer, Peer) else peer.address), self.principal.name

    def document(self, at: float) -> dict[str, Any]:
        who = self.principal
        return {
            "time": timestamp(at),
            "kind": str(who.kind),
            "user": who.name,
            "role": str(who.role) if who.role else None,
            "tenant": who.tenant,
            "on_behalf": who.on_behalf,
            "source": who.source,
            "token": who.token,
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "outcome": self.outcome,
            "status": int(self.status),
            "objects": list(self.objects),
            "summary": self.summary,
        }


class Audit:
    """Opens the file for every line, so that others may rotate it as well.

    plumd rotates it too: `audit.log` becomes `audit.log.1` and so on, when it is full.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        *,
        max_bytes: int = MAX_BYTES,
        kept_files: int = KEPT_FILES,
    ) -> None:
        self.path = path
        self._clock = clock
        self._max_bytes = max_bytes
        self._kept_files = kept_files
        self._repeats: Repeats[Entry] = Repeats()
        self._lock = threading.Lock()  # nobody writes to a file that is being put aside

    def record(self, entry: Entry) -> None:
        """Append a line; of refusals that one caller repeats, a count. Raises OSError."""
        now = self._clock()
        with self._lock:
            self._append_counts(now)
            if entry.outcome == "refused" and self._repeats.is_one_too_many(
                entry.caller, entry, now
            ):
                return
            self._append(entry, now)

    def _append_counts(self, now: float) -> None:
        for entry, count, since in self._repeats.ended(now):
            summary = f"and {count} more of this caller since {timestamp(since)}"
            self._append(replace(entry, summary=summary), now)

    def _append(self, entry: Entry, now: float) -> None:
        line = json.dumps(entry.document(now)).encode() + b"\n"
        self._rotate_if_full(len(line))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o640)
        try:
            # One write to O_APPEND: lines of two processes never mix.
            written = os.write(fd, line)
            if written != len(line):  # the disk is full: end the torn line
                os.write(fd, b"\n")
                raise OSError(f"only {written} of {len(line)} bytes were written")
        finally:
            os.close(fd)

    def unwritable(self) -> str:
        """Why a line could not be written now; empty: it can."""
        try:
            if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
                return f"no permission to write {self.path}"
            room = os.statvfs(self.path.parent)
        except OSError as error:
            return str(error)
        free_bytes = room.f_bavail * room.f_frsize
        return f"{free_bytes} bytes are free at {self.path.parent}" * (free_bytes < MIN_FREE_BYTES)

    def open_all(self) -> list[BinaryIO]:
        """Every file there is, oldest first, opened in one moment: what is rotated while they
        are read is read once. Close them. Raises OSError."""
        closed = [self._closed(number) for number in range(self._kept_files, 0, -1)]
        with self._lock, ExitStack() as stack:
            self._append_counts(self._clock())
            found: list[BinaryIO] = [
                stack.enter_context(path.open("rb"))
                for path in (*closed, self.path)
                if path.exists()
            ]
            stack.pop_all()
            return found

    def _rotate_if_full(self, more_bytes: int) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size == 0 or size + more_bytes <= self._max_bytes:
            return
        oldest = self._closed(self._kept_files)
        if oldest.exists():
            log.warning("the oldest audit log goes", extra={"object": str(oldest)})
        for number in range(self._kept_files - 1, 0, -1):
            if self._closed(number).exists():
                self._closed(number).replace(self._closed(number + 1))
        self.path.replace(self._closed(1))

    def _closed(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
