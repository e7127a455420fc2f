"""This node for the API: the reconciler's state and the kernel's counters."""

from __future__ import annotations

from dataclasses import asdict

from daemon.api.answers import (
    DropCounters,
    EndpointCounters,
    NodeCounters,
    NodeReport,
    RuleCounters,
)
from daemon.reconcile.counters import Dump, Lookup, read_counts
from daemon.reconcile.loop import Reconciler
from daemon.reconcile.worker import Worker


class RunningNode:
    """Counters are read in a thread of their own: a long cycle delays no answer."""

    def __init__(self, reconciler: Reconciler, lookup: Lookup, dump: Dump) -> None:
        self._reconciler = reconciler
        self._lookup = lookup
        self._dump = dump
        self._reader = Worker("counters")

    @property
    def name(self) -> str:
        return self._reconciler.node

    def report(self) -> NodeReport:
        state = self._reconciler
        return NodeReport(
            node=state.node,
            version=state.version,
            revision=state.status.applied_revision,
            ready=state.ready.is_set(),
            reason=state.reason,
            exceptions=state.status.exceptions,
            repairs=tuple(state.repairs),
        )

    async def counters(self) -> NodeCounters:
        state = self._reconciler
        counts = await self._reader.call(
            read_counts, state.names, state.snapshot, self._lookup, self._dump
        )
        return NodeCounters(
            node=state.node,
            endpoints=tuple(EndpointCounters(**asdict(row)) for row in counts.endpoints),
            rules=tuple(RuleCounters.model_validate(asdict(row)) for row in counts.rules),
            drops=tuple(DropCounters(**asdict(row)) for row in counts.drops),
        )

    def close(self) -> None:
        self._reader.close()
