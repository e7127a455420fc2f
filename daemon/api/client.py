"""Asking another daemon: one GET over its unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import h11

MAX_BYTES = 64 << 20


class PeerError(Exception):
    """Another daemon did not answer as it should."""


async def get_json(
    api: str, target: str, timeout_s: float, more_headers: Sequence[tuple[str, str]] = ()
) -> Any:
    """GET `target` from the daemon at `api` (`unix:///run/plum/plumd.sock`).

    Raises PeerError. Between machines it will be mutual TLS.
    """
    parts = urlsplit(api)
    if parts.scheme != "unix" or not parts.path:
        raise PeerError(f"API address {api!r} is of no known kind")
    path = unquote(parts.path)
    try:
        async with asyncio.timeout(timeout_s):
            status, body = await _get(path, target, more_headers)
    except TimeoutError as error:
        raise PeerError(f"no answer from {path} in {timeout_s:g} s") from error
    except (OSError, h11.ProtocolError) as error:
        raise PeerError(f"no answer from {path}: {error}") from error
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PeerError(f"{path} answered {status} with no JSON") from error
    if status != 200:
        raise PeerError(f"{path} answered {status}: {document}")
    return document


async def _get(
    path: str, target: str, more_headers: Sequence[tuple[str, str]]
) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", "localhost"), ("Connection", "close"), ("Accept", "application/json")]
        headers += more_headers
        request = connection.send(h11.Request(method="GET", target=target, headers=headers))
        writer.write((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        status, body = 0, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BYTES:
                    raise PeerError(f"{path} answered more than {MAX_BYTES} bytes")
            else:
                return status, bytes(body)
    finally:
        writer.close()
