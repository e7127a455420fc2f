"""This node for the API: the reconciler's state and the kernel's counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from daemon.api.answers import (
    DropCounters,
    EndpointCounters,
    MeshPeer,
    NodeCounters,
    NodeMesh,
    NodeReport,
    PolicyLogLine,
    RuleCounters,
)
from daemon.mesh.window import PeerState
from daemon.reconcile.counters import Dump, Lookup, read_counts
from daemon.reconcile.loop import Reconciler
from daemon.reconcile.rule_log import RuleLines
from daemon.reconcile.worker import Worker


class RunningNode:
    """Counters are read in a thread of their own: a long cycle delays no answer."""

    def __init__(
        self,
        reconciler: Reconciler,
        lookup: Lookup,
        dump: Dump,
        mesh: Callable[[], Mapping[str, PeerState]],
        lines: RuleLines,
    ) -> None:
        self._reconciler = reconciler
        self._mesh = mesh
        self._lines = lines
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

    def mesh(self) -> NodeMesh:
        peers = {name: _peer(state) for name, state in self._mesh().items()}
        return NodeMesh(node=self.name, peers=peers)

    def policy_log(self, after: int) -> Sequence[PolicyLogLine]:
        found = self._lines.after(after)
        return [PolicyLogLine(node=self.name, **asdict(line)) for line in found]

    def policy_log_read(self) -> int:
        return self._lines.read

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


def _peer(state: PeerState) -> MeshPeer:
    return MeshPeer(
        sent=state.sent,
        loss_percent=round(100 * state.lost / state.sent, 1) if state.sent else 0,
        median_ms=_ms(state.median_s),
        p99_ms=_ms(state.p99_s),
        reachable=state.reachable,
    )


def _ms(seconds: float | None) -> float | None:
    return round(1000 * seconds, 3) if seconds is not None else None
