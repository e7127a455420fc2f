"""What the routes stand on: the store, and the node this daemon runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from fastapi import Depends, Request

from daemon.api.answers import NodeCounters, NodeReport
from daemon.api.principal import Principal
from daemon.store.interface import Store


class LocalNode(Protocol):
    """The running node, as the API sees it."""

    @property
    def name(self) -> str: ...

    def report(self) -> NodeReport: ...

    async def counters(self) -> NodeCounters:
        """Read from the kernel. Raises OSError or a DatapathError."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    store: Store
    node: LocalNode
    peer_timeout_s: float = 3.0  # for another node's answer


def _backend(request: Request) -> Backend:
    return cast(Backend, request.app.state.backend)


def _actor(request: Request) -> str:
    return cast(Principal, request.state.principal).actor


BackendDep = Annotated[Backend, Depends(_backend)]
#: Name of the user who asks.
ActorDep = Annotated[str, Depends(_actor)]
