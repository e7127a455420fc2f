"""One leader per job of the zone, by a lease; and the fence that makes it safe.

A lease alone is no lock: who was paused past its end still thinks it leads. So the
revision at which a leader took office is its fence, and every write of the job
compares it: the store refuses what a deposed leader writes, whenever it wakes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from daemon.store.interface import (
    CompactedError,
    Compare,
    LeaseExpiredError,
    Put,
    Store,
    StoreError,
)
from daemon.zone.keys import leader_key

log = logging.getLogger(__name__)

TTL_S = 10.0
KEEP_ALIVE_S = 3.0
RETRY_S = 1.0

#: A job: runs while its node leads, with the compare that all its writes must carry.
Job = Callable[[Compare], Awaitable[None]]


async def lead(store: Store, job: str, node: str, work: Job, ttl_s: float = TTL_S) -> None:
    """Stand for `job` forever; run `work` whenever elected, cancel it when deposed."""
    while True:
        try:
            await _stand(store, job, node, work, ttl_s)
        except (StoreError, TimeoutError) as error:
            log.info("not leading", extra={"step": job, "error": str(error)})
        except Exception:  # a job that fails is stood for again, here or elsewhere
            log.exception("the job failed", extra={"step": job})
        await asyncio.sleep(RETRY_S)


async def _stand(store: Store, job: str, node: str, work: Job, ttl_s: float) -> None:
    """One term of office, or the wait until there is none in office."""
    key = leader_key(job)
    holder = await store.get(key)
    if holder is not None:
        with suppress(CompactedError):
            async for batch in store.watch([], holder.mod_revision, [key]):
                if any(change.item is None for change in batch.changes):
                    return
        return
    lease = await store.grant(ttl_s)
    value = json.dumps({"node": node}).encode()
    elected = await store.commit([Compare(key, 0)], [Put(key, value, lease)])
    try:
        if elected.succeeded:
            log.info("leading", extra={"step": job})
            await _govern(store, lease, work, Compare(key, elected.revision), ttl_s)
    finally:
        with suppress(StoreError):  # at once, rather than when the lease runs out
            await store.revoke(lease)


async def _govern(store: Store, lease: int, work: Job, fence: Compare, ttl_s: float) -> None:
    """Until the lease is lost, or the job fails."""
    working = asyncio.ensure_future(work(fence))
    try:
        while not (await asyncio.wait([working], timeout=KEEP_ALIVE_S * ttl_s / TTL_S))[0]:
            async with asyncio.timeout(ttl_s):  # longer, and another may lead already
                await store.keep_alive(lease)
        working.result()
    finally:
        working.cancel()  # and what it says is heard above: it must not hide that we are cancelled
        await asyncio.gather(working, return_exceptions=True)


async def stay_alive(store: Store, key: str, value: bytes, ttl_s: float = TTL_S) -> None:
    """Keep `key` there as long as this process lives and reaches the store. Forever."""
    lease = 0
    while True:
        try:
            if lease:
                await store.keep_alive(lease)
            lease = lease or await store.grant(ttl_s)
            if await store.get(key) is None:  # new, or somebody removed it
                await store.commit([], [Put(key, value, lease)])
        except LeaseExpiredError:
            lease = 0
            continue
        except StoreError as error:
            log.info("no sign of life given", extra={"step": "alive", "error": str(error)})
        await asyncio.sleep(KEEP_ALIVE_S * ttl_s / TTL_S)
