"""The one door to other programs. Never through a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from plumctl.errors import PlumError

#: Seconds a helper such as `ip` may take.
TIMEOUT_S = 30.0


def run(*argv: str, stdin: str | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """Run to the end, return stdout. PlumError with its stderr when it fails."""
    done = _finished(argv, stdin, timeout_s)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise PlumError(f"{' '.join(argv)}: {said}", "it needs root; is iproute2 installed?")
    return done.stdout


def succeeds(*argv: str) -> bool:
    return _finished(argv, None, TIMEOUT_S).returncode == 0


def _finished(
    argv: Sequence[str], stdin: str | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(argv), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise PlumError(
            f"{argv[0]} is not installed", "install iproute2, util-linux and procps"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PlumError(
            f"{' '.join(argv)} took longer than {timeout_s:g} s", "try again when less is running"
        ) from error


def pipe(
    argv: Sequence[str], stdin: bytes, env: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end with these bytes on stdin; however it ends. `env` is added to ours."""
    return subprocess.run(
        list(argv), input=stdin, capture_output=True, check=False, env=os.environ | env
    )


def start(argv: Sequence[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that outlives us, in a session of its own, its output in `log`.

    `env` is its whole environment.
    """
    with log.open("ab") as stream:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )


def replace(argv: Sequence[str]) -> None:
    """Become another program: its exit code, signals and terminal are then its own."""
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise PlumError(
            f"cannot run {argv[0]}: {error.strerror}", "install it, or name another command"
        ) from error
