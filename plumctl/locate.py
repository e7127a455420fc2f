"""Which daemon to talk to."""

from __future__ import annotations

import os
from pathlib import Path

from plumctl import token_file
from plumctl.client import ANSWER_TIMEOUT_S, Client
from plumctl.errors import ExitCode, PlumError
from plumctl.sandbox.layout import current_layout

DEFAULT_SOCKET = "/run/plum/plumd.sock"
#: Not PLUM_NODE: that one tells plumd its own name.
NODE_VARIABLE = "PLUM_ASK_NODE"


def socket_path(given: str | None = None) -> str:
    """--socket, else $PLUM_SOCKET, else the node's daemon, else the sandbox's first node."""
    named = given or os.environ.get("PLUM_SOCKET")
    if named:
        return named
    if os.path.exists(DEFAULT_SOCKET):
        return DEFAULT_SOCKET
    first = _first_sandbox_socket()
    return str(first) if first else DEFAULT_SOCKET


def connect(given: str | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Client:
    """With the token of $PLUM_TOKEN_FILE, which --token-file sets, if there is one; for the
    node that --node names."""
    file = os.environ.get(token_file.VARIABLE)
    token = token_file.read(file) if file else None
    node = os.environ.get(NODE_VARIABLE)
    return Client(socket_path(given), timeout_s=timeout_s, token=token, node=node)


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
