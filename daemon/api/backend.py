"""What the routes stand on: the store, and the node this daemon runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request

from daemon.api.answers import NodeCounters, NodeMesh, NodeReport, PolicyLogLine
from daemon.api.client import Peers
from daemon.api.principal import Principal
from daemon.store.interface import Store
from daemon.trust.credentials import Member


class LocalNode(Protocol):
    """The running node, as the API sees it."""

    @property
    def name(self) -> str: ...

    def report(self) -> NodeReport: ...

    def mesh(self) -> NodeMesh: ...

    def policy_log(self, after: int) -> Sequence[PolicyLogLine]:
        """Lines with a higher number, oldest first."""
        ...

    def policy_log_read(self) -> int:
        """Number of the newest one."""
        ...

    async def counters(self) -> NodeCounters:
        """Read from the kernel. Raises OSError or a DatapathError."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    store: Store
    node: LocalNode
    peer_timeout_s: float = 3.0  # for another node's answer
    member: Member | None = None  # None: in no zone, alone on this machine

    @property
    def peers(self) -> Peers:
        return Peers(self.store, self.member)


def _backend(request: Request) -> Backend:
    return cast(Backend, request.app.state.backend)


def _actor(request: Request) -> str:
    return cast(Principal, request.state.principal).actor


BackendDep = Annotated[Backend, Depends(_backend)]
#: Name of the user who asks.
ActorDep = Annotated[str, Depends(_actor)]
