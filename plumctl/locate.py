"""Which daemon to talk to."""

from __future__ import annotations

import os
from pathlib import Path

from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError
from plumctl.sandbox.layout import current_layout

DEFAULT_SOCKET = "/run/plum/plumd.sock"


def socket_path(given: str | None = None) -> str:
    """--socket, else $PLUM_SOCKET, else the node's daemon, else the sandbox's first node."""
    named = given or os.environ.get("PLUM_SOCKET")
    if named:
        return named
    if os.path.exists(DEFAULT_SOCKET):
        return DEFAULT_SOCKET
    first = _first_sandbox_socket()
    return str(first) if first else DEFAULT_SOCKET


def connect(given: str | None = None, *, timeout_s: float | None = None) -> Client:
    path = socket_path(given)
    return Client(path, timeout_s=timeout_s) if timeout_s else Client(path)


def _first_sandbox_socket() -> Path | None:
    layout = current_layout()
    try:
        return next((path for path in layout.sockets() if path.exists()), None)
    except PermissionError as error:
        raise PlumError(
            f"no permission to look into {error.filename}",
            "reading needs group plum (usermod -aG plum USER), writing root or group plum-admin",
            ExitCode.NO_PERMISSION,
        ) from error
