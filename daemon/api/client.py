"""Asking another node's daemon: over mutual TLS, or over its unix socket on one machine."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import h11

from daemon.api.tls import shown
from daemon.reconcile.status import NodeStatus, status_key
from daemon.store.interface import Store, StoreError
from daemon.trust.contexts import PORT
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError

MAX_BYTES = 64 << 20
CONNECT_S = 2.0

Headers = Sequence[tuple[str, str]]


class PeerError(Exception):
    """Another daemon did not answer as it should."""


class NotAskedError(PeerError):
    """It was not reached, so nothing was done: another one may be asked instead."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Question:
    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""


class Peers:
    """The other nodes of the zone."""

    def __init__(self, store: Store, member: Member | None = None, *, port: int = PORT) -> None:
        """Without a `member` nodes are on this machine, reached by their unix sockets."""
        self._store = store
        self.member = member
        self._port = port

    async def get_json(
        self, node: str, target: str, timeout_s: float, more_headers: Headers = ()
    ) -> Any:
        """The JSON that the node answers to a GET. Raises PeerError."""
        headers = (("Accept", "application/json"), *more_headers)
        reply = await self.ask(node, Question("GET", target, headers), timeout_s)
        try:
            document = json.loads(reply.body)
        except ValueError as error:
            raise PeerError(f"{node} answered {reply.status} with no JSON") from error
        if reply.status != 200:
            raise PeerError(f"{node} answered {reply.status}: {document}")
        return document

    async def ask(self, node: str, question: Question, timeout_s: float) -> Reply:
        """Raises PeerError, and NotAskedError when it certainly has not heard of it."""
        try:
            async with asyncio.timeout(min(CONNECT_S, timeout_s)):
                reader, writer = await self._connect(node)
        except TimeoutError as error:
            raise NotAskedError(f"no answer from {node} in {CONNECT_S:g} s") from error
        except (OSError, StoreError, TrustError) as error:
            raise NotAskedError(f"no answer from {node}: {_words(error)}") from error
        try:
            async with asyncio.timeout(timeout_s):
                return await exchange(reader, writer, question)
        except TimeoutError as error:
            raise PeerError(f"no answer from {node} in {timeout_s:g} s") from error
        except ssl.SSLError as error:  # TLS 1.3 tells a client only now that it is refused
            raise NotAskedError(f"{node} refuses our certificate: {_words(error)}") from error
        except (OSError, h11.ProtocolError) as error:
            raise PeerError(f"no answer from {node}: {_words(error)}") from error
        finally:
            writer.close()

    async def _connect(self, node: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.member is not None:
            return await self._connect_tls(self.member, node)
        item = await self._store.get(status_key(node))
        api = NodeStatus.model_validate_json(item.value).api if item else ""
        if not api:
            raise NotAskedError("no plumd has reported from this node yet")
        parts = urlsplit(api)
        if parts.scheme != "unix" or not parts.path:
            raise NotAskedError(f"{node} is reached by {api}, and this node is in no zone")
        return await asyncio.open_unix_connection(unquote(parts.path))

    async def _connect_tls(
        self, member: Member, node: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = member.address(node)
        if address is None:
            raise NotAskedError(f"the zone has no node {node}")
        context = member.credentials.client
        reader, writer = await asyncio.open_connection(
            str(address), self._port, ssl=context, server_hostname=node
        )
        try:
            found, certificate = shown(writer.get_extra_info("ssl_object"), member.zone_id)
            why = await member.roster.refusal(node, certificate)
            if found != node or why:
                raise TrustError(why or f"{found} answered in its place")
        except BaseException:
            writer.close()
            raise
        return reader, writer


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Question
) -> Reply:
    """One request and its answer. Raises OSError, h11.ProtocolError and PeerError."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", "localhost"), ("Connection", "close"), *question.headers]
    if question.body or question.method not in ("GET", "HEAD"):
        headers.append(("Content-Length", str(len(question.body))))
    request = h11.Request(method=question.method, target=question.target, headers=headers)
    writer.write(connection.send(request) or b"")
    if question.body:
        writer.write(connection.send(h11.Data(data=question.body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    status, answered, body = 0, [], bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            status, answered = event.status_code, list(event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BYTES:
                raise PeerError(f"the answer has more than {MAX_BYTES} bytes")
        elif isinstance(event, h11.InformationalResponse):
            continue
        else:
            return Reply(status, tuple(answered), bytes(body))


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return str(error) or type(error).__name__
