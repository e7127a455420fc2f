"""Which nodes live, from two witnesses: their leases and the mesh of the datapath.

The lease says that plumd runs and reaches the store; the mesh, as the others measured
it, that the node forwards. Only both together are death. Nothing is asked while nothing
changes: the store sends what does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from daemon.model.object import Kind
from daemon.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Put,
    Store,
    StoreError,
)
from daemon.zone.keys import ALIVE, LIVENESS, MESH, ROOT, liveness_key

#: A worse state must last so long, a better one so long, before it is believed.
WORSE_S = 3.0
BETTER_S = 5.0
NODES = f"{ROOT}{Kind.NODE}/"
PREFIXES = (NODES, ALIVE, MESH)


class Life(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"  # one witness is missing
    DEAD = "dead"


class Liveness(BaseModel):
    """Value of liveness/NODE."""

    model_config = ConfigDict(frozen=True)

    state: Life
    since: str = Field(description="RFC 3339")
    why: str = ""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """What the store knows at one moment."""

    nodes: frozenset[str]
    leased: frozenset[str]
    unreachable: Mapping[str, frozenset[str]]  # by who says so

    def after(self, batch: Batch) -> Witnesses:
        """What is known after one batch of a watch of all three."""
        nodes, leased, unreachable = set(self.nodes), set(self.leased), dict(self.unreachable)
        for change in batch.changes:
            if change.key.startswith(MESH):
                node = change.key.removeprefix(MESH)
                unreachable.pop(node, None)
                if change.item is not None:
                    unreachable[node] = _said(change.item.value)
                continue
            prefix, names = (NODES, nodes) if change.key.startswith(NODES) else (ALIVE, leased)
            (names.add if change.item else names.discard)(change.key.removeprefix(prefix))
        return Witnesses(frozenset(nodes), frozenset(leased), unreachable)


def judge(node: str, seen: Witnesses) -> tuple[Life, str]:
    """What becomes of a node, by the words of those that live."""
    others = sorted(seen.leased & seen.nodes - {node})
    against = [one for one in others if node in seen.unreachable.get(one, ())]
    if node in seen.leased:
        if others and 2 * len(against) > len(others):
            return Life.SUSPECT, f"the underlay: {', '.join(against)} cannot reach it"
        return Life.ALIVE, ""
    if others and len(against) < len(others):
        return Life.SUSPECT, "its plumd is down or cut off from the store; it forwards"
    if not others:
        return Life.SUSPECT, "its plumd is down or cut off; nobody is left to ask if it forwards"
    return Life.DEAD, "neither its plumd nor its datapath answers"


@dataclass(slots=True)
class Bench:
    """Believes a change when it has lasted. Pure but for the times it is given."""

    known: dict[str, Liveness] = field(default_factory=dict)
    _leaning: dict[str, tuple[Life, str, float]] = field(default_factory=dict)

    def look(self, seen: Witnesses, now: float, wall: float = 0.0) -> dict[str, Liveness]:
        """Changes to write down. `now` by a clock that nobody sets, `wall` by the wall's."""
        changed = {}
        for node in sorted(seen.nodes):
            state, why = judge(node, seen)
            before = self.known.get(node)
            if before is not None and (before.state, before.why) == (state, why):
                self._leaning.pop(node, None)
                continue
            leaning = self._leaning.get(node)
            if leaning is None or leaning[0] != state:
                leaning = self._leaning[node] = (state, why, now)
            first = before is None and state is Life.ALIVE
            lasts_s = BETTER_S if state is Life.ALIVE else WORSE_S
            if first or now - leaning[2] >= lasts_s:
                since = datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds")
                if before is not None and before.state is state:
                    since = before.since
                changed[node] = self.known[node] = Liveness(state=state, since=since, why=why)
                del self._leaning[node]
        for node in self.known.keys() - seen.nodes:
            del self.known[node]
        for node in self._leaning.keys() - seen.nodes:
            del self._leaning[node]
        return changed

    def due(self) -> float | None:
        """When to look again even if nothing changes; None: never."""
        lasts_s = {Life.ALIVE: BETTER_S}
        ends = [at + lasts_s.get(state, WORSE_S) for state, _, at in self._leaning.values()]
        return min(ends, default=None)


async def read_witnesses(store: Store) -> tuple[Witnesses, int]:
    """And the revision to watch from: of the listing that is oldest."""
    nodes, leased, mesh = [await store.list(prefix) for prefix in PREFIXES]
    seen = Witnesses(
        frozenset(item.key.removeprefix(NODES) for item in nodes.items),
        frozenset(item.key.removeprefix(ALIVE) for item in leased.items),
        {item.key.removeprefix(MESH): _said(item.value) for item in mesh.items},
    )
    return seen, min(nodes.revision, leased.revision, mesh.revision)


def _said(value: bytes) -> frozenset[str]:
    return frozenset(json.loads(value)["unreachable"])


async def read_liveness(store: Store) -> dict[str, Liveness]:
    """By node; of those nobody has judged yet there is none."""
    listing = await store.list(LIVENESS)
    return {
        item.key.removeprefix(LIVENESS): Liveness.model_validate_json(item.value)
        for item in listing.items
    }


async def watch_over(store: Store, fence: Compare) -> None:
    """The job of the leader of `liveness`: until its fence no longer holds."""
    bench = Bench(await read_liveness(store))
    while True:
        try:
            await _follow(store, fence, bench)
        except CompactedError:
            continue  # that history is gone: list again


async def _follow(store: Store, fence: Compare, bench: Bench) -> None:
    seen, revision = await read_witnesses(store)
    watch = cast(AsyncGenerator[Batch, None], store.watch(PREFIXES, revision))
    async with aclosing(watch) as batches:
        coming = asyncio.ensure_future(anext(batches))
        try:
            while True:
                await _record(store, fence, bench, seen)
                due = bench.due()
                wait_s = None if due is None else max(0.0, due - time.monotonic())
                if not (await asyncio.wait([coming], timeout=wait_s))[0]:
                    continue
                try:
                    seen = seen.after(coming.result())
                except StopAsyncIteration:
                    raise StoreError("the watch ended") from None
                coming = asyncio.ensure_future(anext(batches))
        finally:
            coming.cancel()
            await asyncio.wait([coming])


async def _record(store: Store, fence: Compare, bench: Bench, seen: Witnesses) -> None:
    """Write down what is believed from now on. Raises StoreError when another one leads."""
    gone = bench.known.keys() - seen.nodes
    changed = bench.look(seen, time.monotonic(), time.time())
    writes: list[Put | Delete] = [Delete(liveness_key(node)) for node in sorted(gone)]
    writes += [
        Put(liveness_key(node), life.model_dump_json().encode()) for node, life in changed.items()
    ]
    if writes and not (await store.commit([fence], writes)).succeeded:
        raise StoreError("another node leads")
