"""Calls to whichever member of an etcd cluster answers.

One channel at a time: to the member that answered last, else the next that does.
A call that may have been carried out is never repeated by itself: its caller is
told that nothing is known of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio

from daemon.store.etcd_messages import MESSAGES
from daemon.store.interface import (
    CompactedError,
    LeaseExpiredError,
    StoreError,
    UnreachableError,
)

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 1.5
EXCHANGE_TIMEOUT_S = 2.0
GIVEN_UP_MOST = 10
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # what a stream that has ended reads as
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a store that is opened again dials again
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
#: Errors of etcd before anything was carried out: the next member may do better.
_NOT_DONE = (
    *("no leader", "not capable", "too many requests", "server stopped"),
    "unhealthy cluster",  # of a change of members
)
_TOO_LARGE = "the change is too large for it: split it, or raise --max-request-bytes"
_MEANING = {
    "mvcc: database space exceeded": (
        "its database is full: compact and defragment it, then disarm the alarm "
        "(etcdctl compact, defrag, alarm disarm)"
    ),
    "too many operations in txn request": (
        "the change is too large for it: split it, or raise --max-txn-ops"
    ),
    "request is too large": _TOO_LARGE,
    "received message larger than max": _TOO_LARGE,  # gRPC's word, half a MiB later
}


@dataclass(frozen=True, slots=True)
class Tls:
    """Files, PEM: the CA of the cluster, and who we are to it."""

    ca: Path
    cert: Path
    key: Path


class EtcdClient:
    """`endpoints`: HOST:PORT of members. Without `tls` in clear text: for one machine only."""

    def __init__(self, endpoints: Sequence[str], tls: Tls | None) -> None:
        self._endpoints = list(endpoints)
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._at = 0
        self._dialing = asyncio.Lock()
        self.closed = False

    @property
    def name(self) -> str:
        return f"etcd {','.join(self._endpoints)}"

    def reach(self, endpoints: Sequence[str]) -> None:
        """These are the members now. An open connection stays, if it is to one of them."""
        now = self._endpoints[self._at]
        self._endpoints = list(endpoints)
        self._at = self._endpoints.index(now) if now in endpoints else 0

    async def read(self, method: str, request: Any, answer: str) -> Any:
        """A call that changes nothing: tried at every member, once each."""
        last = StoreError(f"store {self.name}: no member answers")
        tries = given_up = 0
        while tries < len(self._endpoints) and given_up < GIVEN_UP_MOST:
            try:
                return await self._call(method, request, answer)
            except _GivenUp as error:  # another call left that member: this one knows nothing of it
                given_up += 1
                last = error
            except (UnreachableError, _Unknown) as error:
                tries += 1
                last = error
        raise UnreachableError(str(last)) from last

    async def write(self, method: str, request: Any, answer: str) -> Any:
        """A call that changes something: tried again only where it was surely not carried out."""
        last = StoreError(f"store {self.name}: no member answers")
        for _ in self._endpoints:
            try:
                return await self._call(method, request, answer)
            except UnreachableError as error:
                last = error
            except _Unknown as error:
                raise StoreError(f"{error}; whether it was done is not known: look") from error
        raise UnreachableError(str(last)) from last

    async def stream(self, method: str, answer: str) -> Any:
        """A bidirectional stream on the current member. Raises StoreError if none answers."""
        for _ in self._endpoints:
            try:
                return _open_stream(await self._connected(), method, answer)
            except UnreachableError as error:
                last: StoreError = error
        raise UnreachableError(str(last)) from last

    async def exchange(self, method: str, request: Any, answer: str) -> Any:
        """One question and its answer on a stream: what keeps a lease alive.

        Harmless to repeat, so every member is tried, and in a hurry: the lease runs out
        while we wait for one that has fallen silent.
        """
        last = StoreError(f"store {self.name}: no member answers")
        for _ in self._endpoints:
            try:
                return await self._exchange(method, request, answer)
            except (UnreachableError, _Unknown) as error:
                last = error
        raise UnreachableError(str(last)) from last

    async def _exchange(self, method: str, request: Any, answer: str) -> Any:
        channel = await self._connected()
        call = _open_stream(channel, method, answer)
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                await call.write(request)
                found = await call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._explain(channel, error) from error
        except (TimeoutError, asyncio.InvalidStateError) as error:
            await self.leave(channel)
            raise _Unknown(f"store {self.name}: the member does not answer") from error
        except asyncio.CancelledError:
            if wanted_to_end():
                raise
            raise self._given_up() from None
        finally:
            call.cancel()
        if found is EOF:
            await self.leave(channel)
            raise _Unknown(f"store {self.name}: the member ended the call")
        return found

    async def has_exact_progress(self) -> bool:
        """Does the current member say "all sent" only when it is so? (etcd issue 15220)"""
        answer = await self.read(
            "/etcdserverpb.Maintenance/Status", MESSAGES["StatusRequest"](), "StatusResponse"
        )
        version = tuple(int(part) for part in re.findall(r"\d+", answer.version)[:3])
        return version >= (3, 5, 8) or (3, 4, 25) <= version < (3, 5)

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """To the current member, if there is a connection."""
        return self._channel

    async def leave(self, failed: grpc.aio.Channel | None) -> None:
        """The member at this channel does not do what it should: the next one is asked from
        now on. If somebody else was faster, that one stays: it has done nothing wrong yet."""
        if failed is not self._channel:
            return
        channel, self._channel = self._channel, None
        self._at = (self._at + 1) % len(self._endpoints)
        if channel is not None:
            await channel.close(grace=None)

    async def close(self) -> None:
        self.closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(grace=None)

    async def _call(self, method: str, request: Any, answer: str) -> Any:
        channel = await self._connected()
        call = channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES[answer].FromString,
        )
        try:
            return await call(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise await self._explain(channel, error) from error
        except asyncio.CancelledError:
            if wanted_to_end():
                raise
            raise self._given_up() from None

    def _given_up(self) -> StoreError:
        """What a call comes to whose channel was closed."""
        if self.closed:
            return StoreError(f"store {self.name}: it is closed")
        return _GivenUp(f"store {self.name}: the connection was given up")

    async def _explain(self, channel: grpc.aio.Channel, error: grpc.aio.AioRpcError) -> StoreError:
        said = str(error.details() or error.code())
        code = error.code()
        if self.closed:
            return StoreError(f"store {self.name}: it is closed")
        if "requested lease not found" in said:
            return LeaseExpiredError(f"store {self.name}: the lease does not exist any more")
        if "required revision has been compacted" in said:
            return CompactedError(f"store {self.name}: that history is gone: list again")
        for words, meaning in _MEANING.items():
            if words in said:
                return StoreError(f"store {self.name}: {meaning}")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            await self.leave(channel)
            kind = UnreachableError if any(words in said for words in _NOT_DONE) else _Unknown
            return kind(f"store {self.name}: {said}")
        return StoreError(f"store {self.name}: {said}")

    async def _connected(self) -> grpc.aio.Channel:
        if self.closed:
            raise StoreError(f"store {self.name}: it is closed")
        async with self._dialing:
            if self._channel is None:
                channel = self._dial(self._endpoints[self._at])
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await _ready(channel)
                except (TimeoutError, ConnectionError) as error:
                    endpoint = self._endpoints[self._at]
                    self._at = (self._at + 1) % len(self._endpoints)
                    await channel.close(grace=None)
                    hint = "check that it runs, and its certificates" if self._tls else "start it"
                    raise UnreachableError(
                        f"store {self.name}: member {endpoint} cannot be reached: {hint}"
                    ) from error
                self._channel = channel
            return self._channel

    def _dial(self, endpoint: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(endpoint, _OPTIONS)
        try:
            credentials = grpc.ssl_channel_credentials(
                self._tls.ca.read_bytes(), self._tls.key.read_bytes(), self._tls.cert.read_bytes()
            )
        except OSError as error:
            raise StoreError(f"store {self.name}: {error.filename}: {error.strerror}") from error
        return grpc.aio.secure_channel(endpoint, credentials, _OPTIONS)


def _open_stream(channel: grpc.aio.Channel, method: str, answer: str) -> Any:
    factory: Any = channel.stream_stream(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=MESSAGES[answer].FromString,
    )
    # A member cut off from the others ends the stream instead of keeping silent.
    return factory(metadata=(("hasleader", "true"),))


def wanted_to_end() -> bool:
    """Was this task cancelled, or only the call it waits for, because its channel was closed?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Unknown(StoreError):
    """It may have been carried out."""


class _GivenUp(_Unknown):
    """Another call closed the connection under this one."""


async def _ready(channel: grpc.aio.Channel) -> None:
    """Until it is connected; ConnectionError as soon as a try has failed."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise ConnectionError("refused")
        await channel.wait_for_state_change(cast(grpc.ChannelConnectivity, state))
        state = channel.get_state(try_to_connect=True)
