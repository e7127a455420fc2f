"""The socket file: made by us, so that owner and mode are right from its first moment."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
from pathlib import Path

from daemon.api.peer import READERS

DIRECTORY_MODE = 0o750
SOCKET_MODE = 0o660


class ListenError(Exception):
    """The socket could not be made."""


class Listener:
    """A bound unix socket, and the lock that says whose its path is."""

    def __init__(self, path: Path) -> None:
        """Bind `path`. A socket a dead daemon left is replaced, a living one's is not.

        The directory becomes 0750 and the socket 0660, group `plum` where it
        exists. Raises ListenError.
        """
        self.path = path
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        group = _group(READERS)
        if os.geteuid() == 0:
            os.chown(path.parent, 0, group)
            os.chmod(path.parent, DIRECTORY_MODE)
        self._lock = _lock(path.with_name(path.name + ".lock"))
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o777 & ~0o600)  # nobody else may connect before the owner is set
        try:
            self.socket.bind(os.fspath(path))
        except OSError as error:
            raise ListenError(f"cannot bind {path}: {error}") from error
        finally:
            os.umask(before)
        if os.geteuid() == 0:
            os.chown(path, 0, group)
        os.chmod(path, SOCKET_MODE)

    def close(self) -> None:
        """Take the socket away; the lock goes last. Closing twice is no error."""
        if self._lock < 0:
            return
        self.path.unlink(missing_ok=True)
        self.socket.close()
        os.close(self._lock)
        self._lock = -1


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ListenError(f"another plumd holds {path}: stop it first") from error
    return fd


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return 0
