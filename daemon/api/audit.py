"""The audit log: one JSON line for every write and every refusal, appended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.api.peer import Peer, TlsPeer


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class Audit:
    """Opens the file for every line, so that it may be rotated at any time."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def record(
        self,
        peer: Peer | TlsPeer,
        user: str,
        method: str,
        path: str,
        verdict: str,
        summary: str,
    ) -> None:
        """Append a line. Raises OSError."""
        line: dict[str, Any] = {
            "time": timestamp(self._clock()),
            **asdict(peer),
            "user": user,
            "method": method,
            "path": path,
            "verdict": verdict,
            "summary": summary,
        }
        # One write to O_APPEND: lines of two threads never mix.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o640)
        try:
            os.write(fd, json.dumps(line).encode() + b"\n")
        finally:
            os.close(fd)
