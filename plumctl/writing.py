"""Files that hold what is not everybody's: whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from plumctl.errors import PlumError


def private(path: Path, content: bytes) -> None:
    """Mode 0600, in place at once and on the disk when this returns."""
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(fd, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(name, path)
        except BaseException:
            os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise PlumError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder you may write to"
        ) from error


def to_stdout(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def read(name: str) -> bytes:
    """A file's bytes; `-` is stdin."""
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise PlumError(f"cannot read {name}: {error.strerror}", "name another file") from error
