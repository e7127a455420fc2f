"""Following an etcd cluster: every change once, in order, whatever happens to members.

All ranges of a watch share one stream. A revision may concern several of them and
then comes in several messages, so it is held back until the server has said, after
it, that everything through it has been sent. It is asked at once, however busy the
stream is. The same question, asked now and then, notices a stream that has fallen
silent.

Servers before 3.5.8 (3.4.25) answer too early (etcd issue 15220): past what a watch
that catches up with the past lacks, and past what waits to be sent. With them a watch
waits CATCH_UP_S before it believes an answer, and believes it when another answer has
followed with nothing in between, or a change, since changes are sent in their order.
Were that ever wrong, the rest of a revision would come as a further batch: late, but
nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import grpc
import grpc.aio

from daemon.store.etcd_client import EOF, EtcdClient, wanted_to_end
from daemon.store.etcd_messages import MESSAGES
from daemon.store.interface import Batch, Change, CompactedError, Item, StoreError

log = logging.getLogger(__name__)

QUIET_S = 2.0  # then the server is asked whether it is there
ANSWER_S = 3.0  # it has so long to say so
ASK_AGAIN_S = 0.02  # a server that lags behind says nothing until it has caught up
CATCH_UP_S = 0.15  # an old server looks after watches of the past every 0.1 s
RETRY_S = 0.2
_DELETED = 1
#: First key, and the first one after the last; nothing there: the one key.
Range = tuple[bytes, bytes]

_ALL_WATCHES = -1  # watch_id of the answer to the question


def prefix_range(prefix: str) -> Range:
    """etcd's key and range_end for all keys that start with `prefix`."""
    if not prefix:
        return b"\0", b"\0"
    start = prefix.encode()
    return start, start[:-1] + bytes([start[-1] + 1])  # UTF-8 never ends in 0xff


def ranges(prefixes: Sequence[str], keys: Collection[str]) -> list[Range]:
    """What to watch, without what lies inside another: a change is sent once."""
    outer: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not outer or not prefix.startswith(outer[-1]):
            outer.append(prefix)
    single = sorted(key for key in set(keys) if not key.startswith(tuple(outer)))
    return [*map(prefix_range, outer), *((key.encode(), b"") for key in single)]


class Watcher:
    """One watch of several ranges of keys, from stream to stream."""

    def __init__(self, client: EtcdClient, wanted: Sequence[Range], from_revision: int) -> None:
        self._client = client
        self._ranges = wanted
        #: By number of the range: all through this revision has been taken in.
        self._positions = dict.fromkeys(range(len(wanted)), from_revision)
        self._changes: dict[int, dict[str, Change]] = {}  # by revision, not handed out yet
        self._exact = True  # answers can be taken at their word
        self._believe_at = 0.0  # when an answer counts, by the loop's clock
        self._ask_at = 0.0  # when to ask, if changes are held back
        self._heard: int | None = None  # an answer that is not sure yet
        self._call: Any = None
        self._channel: grpc.aio.Channel | None = None  # the call's

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def batches(self) -> AsyncIterator[Batch]:
        while True:
            try:
                await self._begin()
                while True:
                    for batch in self._take(await self._next()):
                        yield batch
            except (_StreamLostError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as lost:
                self._may_go_on()
                log.info("watch goes on at another member", extra={"error": str(lost)})
            except asyncio.CancelledError:
                self._may_go_on()
                if wanted_to_end():
                    raise
            self.stop()
            await self._client.leave(self._channel)
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))  # not all nodes at once

    def _may_go_on(self) -> None:
        if self._client.closed:
            raise StoreError(f"store {self._client.name}: it is closed") from None

    async def _begin(self) -> None:
        """A stream from where the last one ended.

        Bounded: writing to a call whose channel was closed before the call was under way
        never returns (grpc.aio waits for metadata that nobody will send).
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._open()
        except (StoreError, TimeoutError) as error:
            raise _StreamLostError(str(error) or "the member takes no watch") from error

    async def _open(self) -> None:
        self._channel = self._client.channel
        self._exact = await self._client.has_exact_progress()
        self._call = await self._client.stream("/etcdserverpb.Watch/Watch", "WatchResponse")
        self._channel = self._client.channel
        self._believe_at = 0.0 if self._exact else _now() + CATCH_UP_S
        self._ask_at, self._heard = 0.0, None
        for number, (start, end) in enumerate(self._ranges):
            create = MESSAGES["WatchCreate"](
                key=start,
                range_end=end,
                start_revision=self._positions[number] + 1,
                watch_id=number,
            )
            await self._call.write(MESSAGES["WatchRequest"](create=create))

    async def _next(self) -> Any:
        """The stream's next message. Asks the server while it keeps silent or changes wait."""
        reading = asyncio.ensure_future(self._call.read())
        try:
            asked_at: float | None = None
            due = self._ask_at if self._changes else _now() + QUIET_S
            while not (await asyncio.wait([reading], timeout=max(due - _now(), 0.0)))[0]:
                if asked_at is not None and _now() >= asked_at + ANSWER_S:
                    raise _StreamLostError("the member has fallen silent")
                asked_at = _now() if asked_at is None else asked_at
                await self._ask()
                due = self._ask_at if self._changes else asked_at + ANSWER_S
            answer = reading.result()
        finally:
            reading.cancel()  # ends the stream, if it is not done
        if answer is EOF:
            raise _StreamLostError("the member ended the stream")
        return answer

    async def _ask(self) -> None:
        question = MESSAGES["WatchRequest"](progress=MESSAGES["WatchProgress"]())
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._call.write(question)
        except TimeoutError:
            raise _StreamLostError("the member takes no question") from None
        self._ask_at = _now() + ASK_AGAIN_S

    def _take(self, answer: Any) -> list[Batch]:
        """What is complete with this message."""
        if answer.compact_revision:
            raise CompactedError(
                f"store {self._client.name}: changes after revision "
                f"{min(self._positions.values())} are no longer kept (oldest: "
                f"{answer.compact_revision}): list again and watch from there"
            )
        if answer.canceled:
            raise _StreamLostError(answer.cancel_reason or "the member ended the watch")
        for event in answer.events:
            self._note(answer.watch_id, event)
        if len(self._ranges) == 1 and answer.events:
            return self._complete(answer.header.revision)
        if answer.watch_id == _ALL_WATCHES:
            return self._answered(answer.header.revision)
        if answer.events:
            return self._followed(answer.header.revision)
        return []

    def _answered(self, through: int) -> list[Batch]:
        """The server says that it has sent all through this revision."""
        if _now() < self._believe_at:
            return []
        self._ask_at = 0.0  # at once, if anything newer waits
        sure: int | None = through
        if not self._exact:
            sure, self._heard = self._heard, through
        if sure is None:
            return []
        self._positions = {n: max(p, sure) for n, p in self._positions.items()}
        return self._complete(sure)

    def _followed(self, revision: int) -> list[Batch]:
        """A change came after an answer that was not sure: what is older has all been sent."""
        heard, self._heard = self._heard, None
        return [] if heard is None else self._complete(min(heard, revision - 1))

    def _note(self, number: int, event: Any) -> None:
        kv = event.kv
        revision = kv.mod_revision
        self._positions[number] = max(self._positions[number], revision)
        change = Change(kv.key.decode(), _item(event), revision)
        self._changes.setdefault(revision, {})[change.key] = change

    def _complete(self, through: int) -> list[Batch]:
        done = sorted(revision for revision in self._changes if revision <= through)
        found = [(revision, self._changes.pop(revision)) for revision in done]
        return [Batch(tuple(c[key] for key in sorted(c)), revision) for revision, c in found]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _item(event: Any) -> Item | None:
    kv = event.kv
    if event.type == _DELETED:
        return None
    return Item(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


class _StreamLostError(StoreError):
    """This stream cannot go on; another can."""
