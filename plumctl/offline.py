"""Work on a store while no plumd runs on it, by a program of the daemon's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import plumctl
from plumctl.answers import Restored
from plumctl.asker import refused
from plumctl.run import pipe


def backup(store: str) -> bytes:
    return _run("backup", "--store", store).stdout


def restore(store: str, lines: bytes, *, replace: bool, other_zone: bool) -> Restored:
    flags = [
        flag for flag, given in (("--replace", replace), ("--other-zone", other_zone)) if given
    ]
    return Restored.read(json.loads(_run("restore", "--store", store, *flags, stdin=lines).stdout))


def migrate(store: str, to: str) -> Restored:
    return Restored.read(json.loads(_run("migrate", "--store", store, "--to", to).stdout))


def _run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    root = Path(plumctl.__file__).resolve().parent.parent
    # -P: never a `daemon` of the current directory.
    argv = [sys.executable, "-P", "-m", "daemon.offline", *arguments]
    done = pipe(argv, stdin, {"PYTHONPATH": str(root)})
    if done.returncode:
        try:
            document = json.loads(done.stderr.splitlines()[-1])
        except (ValueError, IndexError):
            document = {"error": {"message": done.stderr.decode(errors="replace").strip()}}
        raise refused(int(document.get("status", 500)), document)
    return done
