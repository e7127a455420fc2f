"""Which daemon to talk to."""

from __future__ import annotations

import os
from pathlib import Path

from plumctl import token_file
from plumctl.asker import ANSWER_TIMEOUT_S
from plumctl.client import Client
from plumctl.door import TlsDoor
from plumctl.errors import ExitCode, PlumError
from plumctl.sandbox.layout import current_layout

DEFAULT_SOCKET = "/run/plum/plumd.sock"
#: Set by the options of the same names before the command, or by the caller.
SERVER, CA = "PLUM_SERVER", "PLUM_CA_FILE"


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
    """--socket, else the director of --server, else a socket of this machine.

    With the token of --token-file if there is one. Raises PlumError.
    """
    server, file = os.environ.get(SERVER), os.environ.get(token_file.VARIABLE)
    if server and not given:
        return Client(
            _director(server, file), timeout_s=timeout_s, token=token_file.read(file or "")
        )
    token = token_file.read(file) if file else None
    return Client(socket_path(given), timeout_s=timeout_s, token=token)


def _director(server: str, file: str | None) -> TlsDoor:
    missing = [
        f"{option} or {variable}"
        for option, variable, value in (
            ("--ca", CA, os.environ.get(CA)),
            ("--token-file", token_file.VARIABLE, file),
        )
        if not value
    ]
    if missing:
        raise PlumError(
            f"a director is reached with the zone's CA and a token: add {' and '.join(missing)}",
            "plumctl --server https://DIRECTOR:4788 --ca ca.pem --token-file FILE COMMAND",
            ExitCode.USAGE,
        )
    return TlsDoor.parse(server, os.environ[CA])


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
