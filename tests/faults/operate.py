"""What a run itself wants of the store: marks to wait for, and compaction. Orders come as
lines on standard input; each is answered with a line, and the end of the input is the end."""

from __future__ import annotations

import asyncio
import os
import sys

from daemon.store.interface import Put, Store, StoreError
from daemon.store.sqlite import SqliteStore
from tests.faults.store_clients import MARKER, StoreClient


async def operate(client: StoreClient) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        order, _, token = line.strip().partition(" ")
        if order == "mark":
            revision = await client.commit([], [Put(MARKER, token.encode())])
            print(revision or 0, flush=True)
        elif order == "put":
            key, _, value = token.partition(" ")
            print(await _put(client.store, key, value), flush=True)
        else:
            print(int(await _compact(client.store)), flush=True)


async def _put(store: Store, key: str, value: str) -> int:
    """The revision; 0: it did not happen, or nobody knows. Of nothing that a history tells."""
    try:
        async with asyncio.timeout(3):
            return (await store.commit([], [Put(key, value.encode())])).revision
    except (StoreError, TimeoutError):
        return 0


async def _compact(store: Store) -> bool:
    """As the store does it by itself every ten thousand revisions, but at once. etcd's
    member is defragmented as well, which stops it for a moment."""
    try:
        async with asyncio.timeout(10):
            if isinstance(store, SqliteStore):
                async with await SqliteStore.open(store._path, keep_revisions=0) as other:
                    await other.commit([], [Put("/compacted", os.urandom(8))])
            else:
                await _compact_etcd(store)
    except (StoreError, TimeoutError):
        return False
    return True


async def _compact_etcd(store: Store) -> None:
    from daemon.store.etcd import EtcdStore
    from daemon.store.etcd_messages import MESSAGES

    assert isinstance(store, EtcdStore)
    now = (await store.list("~")).revision
    request = MESSAGES["CompactRequest"](revision=now)
    await store._client.write("/etcdserverpb.KV/Compact", request, "CompactResponse")
    # An order to defragment has no fields, and its answer is the same: a header.
    nothing = MESSAGES["CompactRequest"]()
    await store._client.write("/etcdserverpb.Maintenance/Defragment", nothing, "CompactResponse")
