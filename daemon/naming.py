"""What a plumd does about names: the datapath's questions, answered from what the zone knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.model.object import Domain, Endpoint
from daemon.model.snapshot import Snapshot
from daemon.reconcile.loop import Reconciler
from daemon.responders.service import Send

if TYPE_CHECKING:
    from daemon.dns.names import Names
    from daemon.dns.service import DnsService

Basis = tuple[Domain, tuple[Endpoint, ...]]


class Naming:
    def __init__(self, reconciler: Reconciler, send: Send) -> None:
        self._reconciler = reconciler
        self._send = send
        self._service: DnsService | None = None
        self._snapshot: Snapshot | None = None
        self._current: dict[str, Names | None] = {}  # of this snapshot, by domain
        self._made: dict[str, tuple[Basis, Names | None]] = {}

    def request(self, slot: int, ifindex: int, frame: bytes) -> None:
        """One record of plum_punt; called in the event loop."""
        if self._service is None:
            from daemon.dns.service import DnsService  # most nodes never need it

            self._service = DnsService(self._names_of, self._send)
        self._service.request(slot, ifindex, frame)

    async def close(self) -> None:
        if self._service is not None:
            await self._service.close()

    def _names_of(self, slot: int) -> tuple[str, Names] | None:
        path = self._reconciler.names.slots.get(slot)
        if path is None:
            return None
        domain = path.rpartition("/")[0]
        names = self._of_domain(domain)
        return None if names is None else (domain, names)

    def _of_domain(self, path: str) -> Names | None:
        """Made anew when the domain or one of its endpoints has changed, and is asked for."""
        snapshot = self._reconciler.snapshot
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._current = {}
        if path not in self._current:
            self._current[path] = self._make(path, snapshot)
        return self._current[path]

    def _make(self, path: str, snapshot: Snapshot) -> Names | None:
        from daemon.dns.names import names_of

        domain = snapshot.domains.get(path)
        if domain is None:
            return None
        prefix = f"{path}/"
        members = tuple(
            endpoint for name, endpoint in snapshot.endpoints.items() if name.startswith(prefix)
        )
        before = self._made.get(path)
        if before is None or not _same(before[0], (domain, members)):
            self._made[path] = before = ((domain, members), names_of(domain, members))
        return before[1]


def _same(one: Basis, other: Basis) -> bool:
    """By identity: objects of a snapshot are not changed, but replaced."""
    alike = one[0] is other[0] and len(one[1]) == len(other[1])
    return alike and all(a is b for a, b in zip(one[1], other[1], strict=True))
