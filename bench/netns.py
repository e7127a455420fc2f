"""Throw-away network namespaces, and the one door to ip, nft and tc."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NETNS_DIR = Path("/run/netns")


class CommandFailed(Exception):
    """A set-up command ended with an error; carries its own words."""


def run(command: Sequence[str], *, stdin: str | None = None, timeout_s: float = 60) -> str:
    """Standard output of the command; raises CommandFailed with its standard error."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise CommandFailed(f"{' '.join(command)}: {words}")
    return done.stdout


def netns_path(name: str) -> str:
    return str(NETNS_DIR / name)


def inside(name: str, command: Sequence[str], *, stdin: str | None = None) -> str:
    """Run in a namespace. Not `ip netns exec`: that remounts /sys and hides bpffs."""
    return run(["nsenter", f"--net={netns_path(name)}", *command], stdin=stdin)


def ip(name: str, *lines: str) -> None:
    """Lines of ip(8), in one process, in a namespace."""
    run(["ip", "-n", name, "-batch", "-"], stdin="\n".join(lines) + "\n")


def set_sysctls(name: str, values: dict[str, int]) -> None:
    """Keys below /proc/sys, dotted, of a namespace."""
    inside(name, ["sysctl", "-q", "-w", *(f"{key}={value}" for key, value in values.items())])


def existing() -> frozenset[str]:
    """Names of the namespaces that are there now."""
    if not NETNS_DIR.is_dir():
        return frozenset()
    return frozenset(entry.name for entry in NETNS_DIR.iterdir())


def remove_abandoned() -> list[str]:
    """Delete, and return, namespaces `bench<pid>-...` of a run that was killed."""
    abandoned = [
        name
        for name in sorted(existing())
        if (of := re.match(r"bench(\d+)-", name)) and not Path(f"/proc/{of[1]}").exists()
    ]
    for name in abandoned:
        run(["ip", "netns", "del", name])
    return abandoned


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """These namespaces, with loopback up; gone at the end, however it ends."""
    made: list[str] = []
    try:
        for name in names:
            run(["ip", "netns", "add", name])
            made.append(name)
            ip(name, "link set lo up")
        yield
    finally:
        for name in made:
            run(["ip", "netns", "del", name])
