"""The store on an etcd cluster: the contract of interface.py over etcd's v3 API."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Collection, Sequence
from types import TracebackType
from typing import Any, Self

from daemon.store import etcd_cluster
from daemon.store.etcd_client import EtcdClient, Tls
from daemon.store.etcd_messages import MESSAGES
from daemon.store.etcd_watch import Watcher, prefix_range, ranges
from daemon.store.interface import (
    Batch,
    Committed,
    Compare,
    Delete,
    Item,
    LeaseExpiredError,
    Listing,
    Put,
    StoreError,
    check_writes,
)

log = logging.getLogger(__name__)

KEEP_REVISIONS = 10_000
PAGE_KEYS = 5_000  # of one answer to a listing: well below a member's memory
_EQUAL, _MOD_REVISION = 0, 2


class EtcdStore:
    """Made by `open`, inside a running loop."""

    def __init__(self, client: EtcdClient, keep_revisions: int) -> None:
        self._client = client
        self._keep = keep_revisions

    @classmethod
    async def open(
        cls,
        endpoints: Sequence[str],
        tls: Tls | None,
        keep_revisions: int = KEEP_REVISIONS,
    ) -> Self:
        """Connect to a member. Raises StoreError if none answers."""
        store = cls(EtcdClient(endpoints, tls), keep_revisions)
        try:
            await store.get("/")
        except BaseException:
            await store.close()
            raise
        return store

    async def get(self, key: str) -> Item | None:
        request = MESSAGES["RangeRequest"](key=key.encode())
        answer = await self._client.read("/etcdserverpb.KV/Range", request, "RangeResponse")
        return _item(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str) -> Listing:
        start, end = prefix_range(prefix)
        revision = 0
        items: list[Item] = []
        more = True
        while more:  # all pages at the revision of the first
            request = MESSAGES["RangeRequest"](
                key=start, range_end=end, limit=PAGE_KEYS, revision=revision
            )
            answer = await self._client.read("/etcdserverpb.KV/Range", request, "RangeResponse")
            revision = revision or answer.header.revision
            items += map(_item, answer.kvs)
            more = answer.more
            if more:
                start = answer.kvs[-1].key + b"\0"
        return Listing(tuple(items), revision)

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        check_writes(writes)
        request = MESSAGES["TxnRequest"](
            compare=[
                MESSAGES["Compare"](
                    result=_EQUAL,
                    target=_MOD_REVISION,
                    key=compare.key.encode(),
                    mod_revision=compare.mod_revision,
                )
                for compare in compares
            ],
            success=[_operation(write) for write in writes],
        )
        answer = await self._client.write("/etcdserverpb.KV/Txn", request, "TxnResponse")
        revision = answer.header.revision
        if answer.succeeded and writes:
            await self._forget(revision)
        return Committed(answer.succeeded, revision)

    async def watch(
        self, prefixes: Sequence[str], from_revision: int, keys: Collection[str] = ()
    ) -> AsyncIterator[Batch]:
        watcher = Watcher(self._client, ranges(prefixes, keys), from_revision)
        try:
            async for batch in watcher.batches():
                yield batch
        finally:
            watcher.stop()

    async def grant(self, ttl_s: float) -> int:
        """etcd counts whole seconds, and no fewer than about two."""
        if not 0 < ttl_s < math.inf:
            raise StoreError(f"a lease lives for a positive number of seconds, not {ttl_s}")
        request = MESSAGES["LeaseGrantRequest"](ttl=math.ceil(ttl_s))
        answer = await self._client.write(
            "/etcdserverpb.Lease/LeaseGrant", request, "LeaseGrantResponse"
        )
        return int(answer.id)

    async def keep_alive(self, lease: int) -> None:
        answer = await self._client.exchange(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            MESSAGES["LeaseKeepAliveRequest"](id=lease),
            "LeaseKeepAliveResponse",
        )
        if answer.ttl <= 0:
            raise LeaseExpiredError(
                f"store {self._client.name}: lease {lease} does not exist any more"
            )

    async def revoke(self, lease: int) -> None:
        request = MESSAGES["LeaseRevokeRequest"](id=lease)
        await self._client.write("/etcdserverpb.Lease/LeaseRevoke", request, "LeaseRevokeResponse")

    async def follow_members(self) -> tuple[str, ...]:
        voting = [member for member in await etcd_cluster.members(self._client) if member.serves]
        endpoints = tuple(sorted(member.endpoint for member in voting))
        self._client.reach(endpoints)
        return endpoints

    async def close(self) -> None:
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _forget(self, revision: int) -> None:
        """Old history, in strides: whoever commits the revision that is due."""
        oldest = revision - self._keep
        if oldest > 0 and revision % max(1, self._keep // 10) == 0:
            request = MESSAGES["CompactRequest"](revision=oldest)
            try:
                await self._client.write("/etcdserverpb.KV/Compact", request, "CompactResponse")
            except StoreError as error:  # another was faster, or the next one will do it
                log.info("history not compacted", extra={"error": str(error)})


def _item(kv: Any) -> Item:
    return Item(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def _operation(write: Put | Delete) -> Any:
    if isinstance(write, Put):
        put = MESSAGES["PutRequest"](key=write.key.encode(), value=write.value, lease=write.lease)
        return MESSAGES["RequestOp"](put=put)
    return MESSAGES["RequestOp"](delete=MESSAGES["DeleteRequest"](key=write.key.encode()))
