"""Tokens in files: only their owner may read them, and they are never on a command line."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from plumctl.errors import ExitCode, PlumError

VARIABLE = "PLUM_TOKEN_FILE"
#: A token has 89 characters.
_MAX_BYTES = 4096


def read(path: str) -> str:
    """The token in the file. Refused when others may read it. Raises PlumError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PlumError(
            f"cannot read the token file {path}: {error.strerror}",
            f"name another with --token-file or {VARIABLE}, or ask for a token",
            ExitCode.NO_PERMISSION,
        ) from error
    try:
        _check(path, os.fstat(fd))
        text = os.read(fd, _MAX_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if not text or not text.isprintable() or " " in text:
        raise PlumError(
            f"{path} holds no token", "write the token into it, and nothing else", ExitCode.USAGE
        )
    return text


def _check(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PlumError(f"{path} is no regular file", "give a file with the token", ExitCode.USAGE)
    if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
        raise PlumError(
            f"{path} is not yours alone: others may have read or written the token in it",
            f"make a new token if they may have; then chmod 600 {path}",
            ExitCode.NO_PERMISSION,
        )


class NewFile:
    """A file made for a token before the token is made: that one can be had only once.

    Leaves no file behind when nothing was written.
    """

    def __init__(self, path: str) -> None:
        """Raises PlumError, also when there is one already."""
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
            os.fchmod(self._fd, 0o600)
        except OSError as error:
            raise PlumError(
                f"cannot make {path}: {error.strerror}", "name a file that does not exist yet"
            ) from error
        self._written = False

    def write(self, token: str) -> None:
        os.write(self._fd, token.encode() + b"\n")
        os.fsync(self._fd)
        self._written = True

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if not self._written:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
