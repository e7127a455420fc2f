"""Stopping a process that writes to a store."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from urllib.parse import unquote, urlsplit


def pause_between_writes(process: subprocess.Popen[bytes], url: str) -> None:
    """SIGSTOP, where it does not hold SQLite's lock: nobody else could write beside it."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        if not _locked(url):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("it is always in a write")


def _locked(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return False
    with closing(sqlite3.connect(unquote(parts.path), timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False
