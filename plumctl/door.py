"""How to reach a daemon: by its unix socket, or by TLS where a director listens."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from plumctl.errors import ExitCode, PlumError

DEFAULT_PORT = 4788


class Door(Protocol):
    @property
    def address(self) -> str:
        """For messages."""
        ...

    def open(self, timeout_s: float) -> http.client.HTTPConnection:
        """Not connected yet. Raises PlumError."""
        ...


@dataclass(frozen=True, slots=True)
class UnixDoor:
    path: str

    @property
    def address(self) -> str:
        return self.path

    def open(self, timeout_s: float) -> http.client.HTTPConnection:
        return _UnixConnection(self.path, timeout_s)


@dataclass(frozen=True, slots=True)
class TlsDoor:
    """TLS 1.3, and only with who has a certificate of that CA for that name."""

    host: str
    port: int
    ca_file: str

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    @classmethod
    def parse(cls, url: str, ca_file: str) -> TlsDoor:
        """`https://director:4788`. Raises PlumError."""
        hint = f"write https://HOST, or https://HOST:PORT (default: {DEFAULT_PORT})"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise PlumError(f"{url!r} is no address: {error}", hint, ExitCode.USAGE) from error
        if parts.scheme == "http":
            raise PlumError(f"{url!r} is not encrypted", hint, ExitCode.USAGE)
        more = parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme != "https" or not host or more:
            raise PlumError(f"{url!r} is no address of a director", hint, ExitCode.USAGE)
        return cls(host, port or DEFAULT_PORT, ca_file)

    def open(self, timeout_s: float) -> http.client.HTTPConnection:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise PlumError(
                f"cannot use {self.ca_file} as the zone's CA: {error}",
                "give the file ca.pem of the zone with --ca or PLUM_CA_FILE",
                ExitCode.USAGE,
            ) from error
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)
