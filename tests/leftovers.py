"""Find and remove what a killed test run left in the kernel and on disk.

Tests name their namespaces and pin directories `t-<what>-<pid>` or
`t-<what>-<pid>-...`, so a later run knows whose they are and leaves those of a
living run alone.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

NAME = re.compile(r"t-[a-z-]+-(\d+)(?:-.*)?")
PINS = Path("/sys/fs/bpf")


def abandoned(names: Iterable[str]) -> list[str]:
    """Those that a test run made that is no more."""
    found = []
    for name in names:
        match = NAME.fullmatch(name)
        if match and not Path("/proc", match[1]).exists():
            found.append(name)
    return found


def entries(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def end_processes(namespace: str) -> None:
    """Kill who lives in a network namespace: they would keep it, and its devices."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    for pid in listed.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


def remove_abandoned() -> list[str]:
    """Return what was removed, namespaces first."""
    removed = []
    namespaces = abandoned(entries(Path("/run/netns")))
    for namespace in namespaces:
        end_processes(namespace)
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)
        removed.append(namespace)
    for name in abandoned(entries(PINS)):
        shutil.rmtree(PINS / name)
        removed.append(str(PINS / name))
    return removed
