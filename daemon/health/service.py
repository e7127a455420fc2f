"""The checks of one node, and what all nodes say of the backends it balances to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import cast

from daemon.health.checks import check
from daemon.health.plan import FIRST_PORT, Target, checked_domains, targets_of
from daemon.health.verdict import REPORT, Report, Row, Verdict, report_of
from daemon.health.wire import wire
from daemon.model.snapshot import Snapshot
from daemon.responders.segment import Ends
from daemon.responders.stream import Line
from daemon.store.interface import Batch, Delete, Put, Store, StoreError
from daemon.zone.keys import HEALTH, health_key, health_prefix

log = logging.getLogger(__name__)

LOOK_S = 0.2
#: Between two reports of a node, so that flapping backends do not keep the zone busy.
REPORT_S = 0.5
RETRY_S = 1.0

Open = Callable[[int, Ends], AbstractAsyncContextManager[Line]]
Down = dict[str, frozenset[tuple[str, str]]]


class HealthService:
    """`snapshot` and `ifindex_of` say what there is; `tell` hears who is down."""

    def __init__(
        self,
        node: str,
        store: Store,
        snapshot: Callable[[], Snapshot],
        ifindex_of: Callable[[str], int],
        tell: Callable[[Down], None],
        open_line: Open = wire,
    ) -> None:
        self._node = node
        self._store = store
        self._snapshot = snapshot
        self._ifindex_of = ifindex_of
        self._tell = tell
        self._open = open_line
        self._checks: dict[Target, asyncio.Task[None]] = {}
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._reports: dict[str, Report] = {}  # of all nodes, by key
        self._written: dict[str, Report] = {}  # our own, by domain
        self._read: frozenset[str] = frozenset()  # domains whose reports are here
        self._changed = asyncio.Event()
        self._ports = _ports()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._report())
            tasks.create_task(self._keep_checks(tasks))

    async def _keep_checks(self, tasks: asyncio.TaskGroup) -> None:
        """A task for every target whose domain's reports were read: a restarted plumd
        goes on from what it said last."""
        done: tuple[Snapshot, frozenset[str]] | None = None
        while True:
            snapshot = self._snapshot()
            if done is None or done[0] is not snapshot or done[1] != self._read:
                done = (snapshot, self._read)
                wanted = {t for t in targets_of(snapshot, self._node) if t.domain in self._read}
                for target in self._checks.keys() - wanted:
                    self._checks.pop(target).cancel()
                keep = {_place(target) for target in wanted}
                self._rows = {place: row for place, row in self._rows.items() if place in keep}
                for target in wanted - self._checks.keys():
                    self._rows.setdefault(_place(target), self._last(target))
                    self._checks[target] = tasks.create_task(self._watch(target))
                self._changed.set()
                self._publish_down()
            await asyncio.sleep(LOOK_S)

    def _last(self, target: Target) -> Row:
        report = self._reports.get(health_key(target.domain, self._node), {})
        said = report.get(target.balancer, {}).get(target.endpoint)
        return Row(said or Verdict(since=_now()))

    async def _watch(self, target: Target) -> None:
        interval_s = target.health.interval_s
        await asyncio.sleep(random.uniform(0, min(interval_s, 1.0)))
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            ifindex = self._ifindex_of(target.path)
            if ifindex:
                why = await self._ask(target, ifindex)
                self._judge(target, why)
            await asyncio.sleep(max(0.0, started + interval_s - loop.time()))

    async def _ask(self, target: Target, ifindex: int) -> str:
        ends = Ends(
            bytes.fromhex(target.mac.replace(":", "")),
            bytes.fromhex(target.peer_mac.replace(":", "")),
            target.vip,
            target.address,
            next(self._ports),
            target.port,
        )
        try:
            async with self._open(ifindex, ends) as line:
                return await check(target.health, line, ends)
        except OSError as error:
            return f"its device: {error.strerror or error}"

    def _judge(self, target: Target, why: str) -> None:
        place = _place(target)
        row = self._rows[place]
        after = row.after(why, target.health, _now())
        self._rows[place] = after
        if after.verdict == row.verdict:
            return
        state = "up" if after.verdict.up else f"down: {why}"
        log.warning(
            f"backend of {target.balancer} is {state}",
            extra={"object": target.path, "step": "health"},
        )
        self._changed.set()

    async def _report(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            reports: dict[str, Report] = {}
            for (domain, balancer, endpoint), row in self._rows.items():
                reports.setdefault(domain, {}).setdefault(balancer, {})[endpoint] = row.verdict
            try:
                await self._write(reports)
            except StoreError as error:
                log.error("health not written", extra={"step": "health", "error": str(error)})
                self._changed.set()
            await asyncio.sleep(REPORT_S)

    async def _write(self, reports: dict[str, Report]) -> None:
        for domain in sorted(self._read | self._written.keys()):
            key, report = health_key(domain, self._node), reports.get(domain)
            known = self._written.get(domain, self._reports.get(key))
            if report == known or not (report or known):
                continue
            write = Put(key, REPORT.dump_json(report)) if report else Delete(key)
            await self._store.commit([], [write])
            self._written[domain] = report or {}

    async def _follow(self) -> None:
        """What every node says of the backends in our domains."""
        while True:
            domains = checked_domains(self._snapshot())
            if not domains:
                self._take(frozenset(), {})
                await asyncio.sleep(LOOK_S)
                continue
            try:
                await self._follow_domains(domains)
            except StoreError as error:
                log.error("store", extra={"step": "health", "error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _follow_domains(self, domains: frozenset[str]) -> None:
        """Until there are other domains, or the watch ends."""
        prefixes = tuple(map(health_prefix, sorted(domains)))
        found: dict[str, Report] = {}
        revision: int | None = None
        for prefix in prefixes:
            listing = await self._store.list(prefix)
            revision = min(revision or listing.revision, listing.revision)
            found |= {item.key: report_of(item.value) for item in listing.items}
        self._take(domains, found)
        watching = asyncio.create_task(self._watch_reports(prefixes, revision or 0))
        try:
            while not watching.done() and checked_domains(self._snapshot()) == domains:
                await asyncio.wait([watching], timeout=LOOK_S)
        finally:
            watching.cancel()
            results = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _watch_reports(self, prefixes: tuple[str, ...], revision: int) -> None:
        watch = cast(AsyncGenerator[Batch, None], self._store.watch(prefixes, revision))
        async with aclosing(watch) as batches:
            async for batch in batches:
                for change in batch.changes:
                    if change.item is None:
                        self._reports.pop(change.key, None)
                    else:
                        self._reports[change.key] = report_of(change.item.value)
                self._publish_down()

    def _take(self, domains: frozenset[str], reports: dict[str, Report]) -> None:
        if domains != self._read or reports != self._reports:
            self._read, self._reports = domains, reports
            self._publish_down()

    def _publish_down(self) -> None:
        self._tell(down_of(self._reports, self._snapshot()))


def down_of(reports: Mapping[str, Report], snapshot: Snapshot) -> Down:
    """Balancer and endpoint of the backends that are down, by domain. Only the node that
    hosts an endpoint is believed."""
    found: dict[str, set[tuple[str, str]]] = {}
    for key, report in reports.items():
        domain, _, node = key.removeprefix(HEALTH).rpartition("/")
        for balancer, verdicts in report.items():
            for name, verdict in verdicts.items():
                endpoint = snapshot.endpoints.get(f"{domain}/{name}")
                if not verdict.up and endpoint is not None and endpoint.spec.node == node:
                    found.setdefault(domain, set()).add((balancer, name))
    return {domain: frozenset(pairs) for domain, pairs in found.items()}


def _place(target: Target) -> tuple[str, str, str]:
    return target.domain, target.balancer, target.endpoint


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _ports() -> Iterator[int]:
    """Source ports in turn, beginning anywhere: none is used again soon."""
    count = 65536 - FIRST_PORT
    port = random.randrange(count)
    while True:
        yield FIRST_PORT + port
        port = (port + 1) % count
