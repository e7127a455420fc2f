"""Following an etcd cluster: every change once, in order, whatever happens to members.

All ranges of a watch share one stream. A revision may concern several of them and
then comes in several messages, so it is held back until the server has said, after
it, that everything through it has been sent. The same question, asked now and then,
notices a stream that has fallen silent.

Servers before 3.5.8 (3.4.25) answer that question too early while a watch is still
catching up with the past (etcd issue 15220). With them a watch that starts in the
past waits CATCH_UP_S before it believes the answer. Were that ever too short, the
rest of a revision would come as a further batch: late, but nothing is lost.
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
ASK_SOON_S = 0.002  # after a change: the rest of its revision is right behind it
ASK_AGAIN_S = 0.05  # a server that lags behind says nothing until it has caught up
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
        self._believe_at = 0.0  # when an answer counts, by the loop's clock
        self._call: Any = None

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
            await self._client.leave()
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))  # not all nodes at once

    def _may_go_on(self) -> None:
        if self._client.closed:
            raise StoreError(f"store {self._client.name}: it is closed") from None

    async def _begin(self) -> None:
        """A stream from where the last one ended."""
        try:
            exact = await self._client.has_exact_progress()
            self._call = await self._client.stream("/etcdserverpb.Watch/Watch", "WatchResponse")
        except StoreError as error:
            raise _StreamLostError(str(error)) from error
        self._believe_at = 0.0 if exact else asyncio.get_running_loop().time() + CATCH_UP_S
        for number, (start, end) in enumerate(self._ranges):
            create = MESSAGES["WatchCreate"](
                key=start,
                range_end=end,
                start_revision=self._positions[number] + 1,
                watch_id=number,
            )
            await self._call.write(MESSAGES["WatchRequest"](create=create))

    async def _next(self) -> Any:
        """The stream's next message. Asks the server while it keeps silent."""
        reading = asyncio.ensure_future(self._call.read())
        try:
            silent_s = 0.0
            wait_s = ASK_SOON_S if self._changes else QUIET_S
            while not (await asyncio.wait([reading], timeout=wait_s))[0]:
                silent_s += wait_s
                if silent_s > QUIET_S + ANSWER_S:
                    raise _StreamLostError("the member has fallen silent")
                await self._call.write(
                    MESSAGES["WatchRequest"](progress=MESSAGES["WatchProgress"]())
                )
                wait_s = ASK_AGAIN_S if self._changes else ANSWER_S
            answer = reading.result()
        finally:
            reading.cancel()  # ends the stream, if it is not done
        if answer is EOF:
            raise _StreamLostError("the member ended the stream")
        return answer

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
        if answer.watch_id != _ALL_WATCHES or self._too_early():
            return []
        through = answer.header.revision
        self._positions = {n: max(p, through) for n, p in self._positions.items()}
        return self._complete(through)

    def _too_early(self) -> bool:
        return asyncio.get_running_loop().time() < self._believe_at

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


def _item(event: Any) -> Item | None:
    kv = event.kv
    if event.type == _DELETED:
        return None
    return Item(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


class _StreamLostError(StoreError):
    """This stream cannot go on; another can."""
