"""The loop: snapshots in, cycles and checks in the kernel thread, status out."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from daemon.abi import ClaimKey
from daemon.compiler.result import Names, Outside
from daemon.compiler.wide import narrow
from daemon.model.base import Address
from daemon.model.object import Kind
from daemon.model.snapshot import Snapshot
from daemon.reconcile.applier import Applier, Outcome
from daemon.reconcile.follow import follow
from daemon.reconcile.host import Host
from daemon.reconcile.status import Exceptional, NodeStatus, Repair, State, status_key
from daemon.reconcile.worker import Worker
from daemon.responders.service import Responder
from daemon.store.interface import Put, Store, StoreError
from daemon.zone.errors import ZoneError
from daemon.zone.history import due_confirms, revert

log = logging.getLogger(__name__)

#: From here on one list of all devices is cheaper than asking for each.
MANY_DEVICES = 100


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    debounce: float = 0.005  # a burst of changes is one cycle
    hurry: float = 0.2  # from a device's event to a look at it
    verify: float = 0.8
    verify_share: float = 0.05  # of the time, at most; but never slower than verify_max
    verify_max: float = 1.2
    devices_every: int = 30  # checks: a look at all, also those of which nothing was heard
    retry_first: float = 0.1
    retry_max: float = 5.0
    collect: float = 5.0
    refresh: float = 3.0  # of next hops; the datapath trusts them for 10
    confirm: float = 1.0


class Reconciler:
    """Keeps one node as the store says. `run` is its life."""

    def __init__(
        self,
        node: str,
        store: Store,
        host: Host,
        responder: Responder,
        *,
        api: str = "",
        version: str = "",
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.node = node
        self.version = version
        self.names = Names()
        self.snapshot = Snapshot()
        self.status = NodeStatus(node=node, applied_revision=0, api=api, version=version)
        self.reason = "the store was not read yet"  # why not ready; empty: ready
        self.repairs: deque[Repair] = deque(maxlen=100)
        self.ready = asyncio.Event()
        self.worker = Worker("kernel")
        self._store = store
        self._host = host
        self._applier = Applier(host, node, clock)
        self._responder = responder
        self._pace = pace or Pace()
        self._clock = clock
        self._wake = asyncio.Event()
        self._due = False  # a cycle is
        self._edge: datetime | None = None  # when rules begin or cease to count
        self._check_at = 0.0
        self._look_at = math.inf  # at devices alone, sooner than the next check
        self._looked_at = 0.0
        self._stirred: set[int] = set()  # ifindexes that were heard of; 0: any
        self._checks = 0
        self._retry_at: float | None = None
        self._retry_s = self._pace.retry_first
        self._freed: asyncio.Queue[int] = asyncio.Queue()
        self._hops_due = asyncio.Event()
        self._nodes: dict[int, Address] = {}  # others, by index
        self._published: NodeStatus | None = None

    async def run(self) -> None:
        """Until cancelled. What the kernel holds stays."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(follow(self._store, self.node, self._receive, self._store_failed))
                tasks.create_task(self._work())
                tasks.create_task(self._purge())
                tasks.create_task(self._every(self._pace.collect, self._collect))
                tasks.create_task(self._keep_hops())
                tasks.create_task(self._every(self._pace.confirm, self._revert_due))
        finally:
            self.worker.close()

    def _receive(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._due = True
        self._wake.set()

    def _store_failed(self, reason: str) -> None:
        if not self.ready.is_set():
            self.reason = reason

    def device_event(self, ifindex: int = 0, *, urgent: bool) -> None:
        """Something happened to a device or its filter; 0: perhaps to any. Urgent:
        something is gone. Our own changes are heard as well."""
        now = asyncio.get_running_loop().time()
        self._stirred.add(ifindex)
        if urgent or any(ifindex == one.ifindex for one in self._applier.outside):
            self._look_at = min(self._look_at, max(now, self._looked_at + self._pace.hurry))
        if self._retry_at is not None:  # perhaps what was missing has come
            self._retry_at = min(self._retry_at, now + self._pace.hurry)
        self._wake.set()

    @property
    def outside(self) -> tuple[Outside, ...]:
        """The devices through which this node is a gateway now."""
        return self._applier.outside

    def claims(self) -> dict[int, frozenset[Address]]:
        """Public addresses this node answers for outside, by the network's VNI."""
        found: dict[int, set[Address]] = {}
        for key in map(ClaimKey.unpack, self._applier.keys("plum_claim")):
            found.setdefault(key.vni, set()).add(narrow(key.addr))
        return {vni: frozenset(addresses) for vni, addresses in found.items()}

    def gateways_down(self, down: frozenset[tuple[str, str]]) -> None:
        """Gateways that do not answer, each with its external network: not used until
        they do."""
        if down != self._applier.down:
            self._applier.down = down
            self._due = True
            self._wake.set()

    def backends_down(self, sick: Mapping[str, frozenset[tuple[str, str]]]) -> None:
        """Balancer and endpoint, by domain, of the backends that get no new connections."""
        new = tuple(sorted((path, down) for path, down in sick.items() if down))
        if new != self._applier.sick:
            self._applier.sick = new
            self._due = True
            self._wake.set()

    def ifindex_of(self, endpoint: str) -> int:
        """The device of a local endpoint, by path; 0: there is none."""
        return self._applier.ifindex_of(endpoint)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        self._check_at = loop.time() + self._pace.verify
        while True:
            edge_at = loop.time() + self._until_edge_s()
            until = min(self._check_at, self._look_at, self._retry_at or math.inf, edge_at)
            try:
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
            except TimeoutError:
                pass  # a check or a retry is due
            self._wake.clear()
            retry = self._retry_at is not None and loop.time() >= self._retry_at
            if self._due or retry or self._until_edge_s() <= 0:
                await asyncio.sleep(self._pace.debounce)
                await self._cycle()
            started = loop.time()
            check = started >= self._check_at
            if check or started >= self._look_at:
                await self._verify(rows=check)
                self._look_at, self._looked_at = math.inf, loop.time()
            if check:
                pause = (loop.time() - started) / self._pace.verify_share
                pause = max(self._pace.verify, min(self._pace.verify_max, pause))
                self._check_at = loop.time() + pause
            if self._published != self.status:
                await self._publish()

    async def _cycle(self) -> None:
        self._due = False
        snapshot = self.snapshot
        try:
            outcome = await self.worker.call(self._applier.apply, snapshot)
        except Exception as error:  # becomes the node's status, and is tried again
            self._node_failed(error)
            return
        if outcome.unknown:
            self._unknown(snapshot)
            return
        self._edge = outcome.until
        self._take(outcome)
        self._schedule_retry(failed=bool(outcome.exceptions))
        others = {n.id: n.spec.vtep for n in snapshot.nodes.values() if n.name != self.node}
        if others != self._nodes:
            self._nodes = others
            self._hops_due.set()
        await self._publish()
        for slot in outcome.freed:
            self._freed.put_nowait(slot)

    def _take(self, outcome: Outcome) -> None:
        self.names = outcome.names
        self._responder.serve(outcome.facts)
        self.reason = ""
        for exception in set(outcome.exceptions) - set(self.status.exceptions):
            log.warning(
                "not programmed",
                extra={
                    "object": f"{exception.kind} {exception.path}",
                    "step": "apply",
                    "error": exception.reason,
                },
            )
        self._renew(applied_revision=outcome.revision, exceptions=outcome.exceptions)
        if not self.ready.is_set():
            log.info("first full sync done", extra={"step": "sync", "object": self.node})
            self.ready.set()

    def _unknown(self, snapshot: Snapshot) -> None:
        reason = f"the store has no node {self.node}: apply one, plumd waits for it"
        if self.reason != reason:
            log.warning(reason, extra={"step": "sync", "object": self.node})
        self.reason = reason
        self._schedule_retry(failed=False)

    def _node_failed(self, error: Exception) -> None:
        known = isinstance(error, OSError) or type(error).__name__ == "DatapathError"
        log.error(
            "cycle failed",
            exc_info=None if known else error,
            extra={"step": "apply", "object": self.node, "error": str(error)},
        )
        own = Exceptional(
            kind=Kind.NODE, path=self.node, state=State.ERROR, reason=str(error).split("\n")[0]
        )
        others = [e for e in self.status.exceptions if (e.kind, e.path) != (own.kind, own.path)]
        self._renew(exceptions=(*others, own))
        self._schedule_retry(failed=True)

    def _until_edge_s(self) -> float:
        """Asked again at every check, so that a clock that is set is noticed."""
        if self._edge is None:
            return math.inf
        return max(0.0, self._edge.timestamp() - self._clock())

    def _schedule_retry(self, *, failed: bool) -> None:
        if not failed:
            self._retry_at, self._retry_s = None, self._pace.retry_first
            return
        self._retry_at = asyncio.get_running_loop().time() + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._pace.retry_max)

    async def _verify(self, *, rows: bool) -> None:
        if not self.ready.is_set() or self._due:
            return
        self._checks += rows
        heard, self._stirred = self._stirred, set()
        survey = rows and self._checks % self._pace.devices_every == 0
        survey = survey or 0 in heard or len(heard) > MANY_DEVICES
        try:
            wrong = await self.worker.call(
                partial(self._applier.verify, rows=rows, devices=None if survey else heard)
            )
        except Exception as error:  # becomes the node's status, and is tried again
            self._node_failed(error)
            return
        if not wrong:
            return
        for what in wrong:
            log.warning("repair", extra={"object": self.node, "step": "verify", "error": what})
            self.repairs.append(Repair(time=self._now(), what=what))
        await self._cycle()

    def _renew(self, **fields: object) -> None:
        self.status = self.status.model_copy(update=fields)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")

    async def _publish(self) -> None:
        """Write the status record when it says something new."""
        status = self.status
        if self._published == status or (not self.ready.is_set() and not status.exceptions):
            return
        record = status.model_copy(update={"updated": self._now()})
        try:
            await self._store.commit(
                [], [Put(status_key(self.node), record.model_dump_json().encode())]
            )
        except StoreError as error:  # tried again at the next check
            log.error("status not written", extra={"step": "status", "error": str(error)})
            return
        self._published = status

    async def _every(self, period_s: float, job: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(period_s)
            if not self.ready.is_set():
                continue
            try:
                result = job()
                if asyncio.iscoroutine(result):
                    await result
            except Exception as error:  # the next round tries again
                log.error(
                    "failed",
                    extra={"step": getattr(job, "__name__", ""), "error": str(error)},
                )

    async def _collect(self) -> None:
        await self.worker.call(self._host.collect)

    async def _purge(self) -> None:
        """Flows of slots nobody has; one at a time, so that cycles come in between."""
        while True:
            slot = await self._freed.get()
            if slot in self.names.slots:
                continue  # it has a new owner, whose flows are not to be touched
            try:
                await self.worker.call(self._host.collect, slot)
            except Exception as error:  # they end by themselves when they are idle
                log.error("flows not purged", extra={"step": "purge", "error": str(error)})

    async def _keep_hops(self) -> None:
        """Next hops: at once for new nodes, soon again for those not found, else at the pace."""
        pause_s = self._pace.refresh
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._hops_due.wait()
                pause_s = self._pace.retry_first
            except TimeoutError:
                pause_s = min(pause_s * 2, self._pace.refresh)
            self._hops_due.clear()
            if not self.ready.is_set():
                continue
            try:
                missing = await self.worker.call(self._host.refresh, self._nodes)
            except Exception as error:  # the next round tries again
                log.error("next hops not renewed", extra={"step": "refresh", "error": str(error)})
                continue
            if not missing:
                pause_s = self._pace.refresh

    async def _revert_due(self) -> None:
        for seq in await due_confirms(self._store, self._clock()):
            name = f"revision {seq}"
            try:
                if await revert(self._store, seq, clock=self._clock):
                    log.warning("reverted, nobody confirmed", extra={"object": name})
            except ZoneError as error:  # others must not wait for this one
                log.error("not reverted", extra={"object": name, "error": str(error)})
