"""What the reconciler asks of a machine. `kernel.py` is the real one; tests have theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.compiler.result import Outside
from daemon.drivers.netns import Inside
from daemon.model.base import Address
from daemon.model.endpoint import AttachKind
from daemon.reconcile.status import State


class HostError(Exception):
    """One endpoint cannot be served; the others can.

    PENDING: somebody else has to do something first (bring the device).
    """

    def __init__(self, reason: str, state: State = State.ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.state = state


@dataclass(frozen=True, slots=True)
class Want:
    """A local endpoint's device as it should be."""

    path: str
    id: int
    slot: int
    kind: AttachKind
    device: str  # on the node
    mac: str
    mtu: int  # bytes
    namespace: str | None = None  # netns only
    inner: str = ""  # device name inside the namespace
    inside: Inside | None = None  # what to configure there; None: the workload does


@dataclass(frozen=True, slots=True)
class Found:
    """A device that is ours, as it is."""

    name: str
    ifindex: int
    mac: str
    mtu: int
    up: bool
    guarded: bool  # our program is on its ingress
    tap: bool = False
    peer_index: int = 0  # of a veth, in its own namespace
    made: bool = False  # by us, not adopted
    outdated: bool = False  # guarded by an older build, which may read other maps


class Host(Protocol):
    """Blocking; called from one thread. Raises OSError or DatapathError."""

    def survey(self, ifindexes: Collection[int] | None = None) -> dict[str, Found]:
        """Our devices, by endpoint path: all, or those of `ifindexes`."""
        ...

    def make(self, wants: Sequence[Want]) -> dict[str, Found | HostError]:
        """Make or adopt devices. They are guarded; made ones are down."""
        ...

    def guard(self, ifindexes: Collection[int]) -> None:
        """Put our program on the ingress of devices, replacing any other of ours."""
        ...

    def switch(self, ifindexes: Collection[int]) -> None:
        """This build takes over from an older one on devices and on the underlay's:
        established flows go on. The rows must be written."""
        ...

    def open(self, pairs: Iterable[tuple[Want, Found]]) -> dict[str, HostError]:
        """Configure the inside, set MTUs, links up. Answers what failed."""
        ...

    def remove(self, found: Mapping[str, Found]) -> None:
        """Delete what we made, let go of what we adopted."""
        ...

    def prune(self, keep: Collection[str]) -> None:
        """Delete namespaces we made that are not in `keep`."""
        ...

    def underlay(self, vtep: Address) -> int:
        """Guard the device tunnels arrive at; its ifindex. Raises HostError.

        If an older build guards it, that stays until `switch`.
        """
        ...

    def check_underlay(self, vtep: Address) -> int:
        """Ifindex of the device with the address, if our program is on it; else 0."""
        ...

    def outside(self, wants: Mapping[str, str]) -> dict[str, Outside | HostError]:
        """Guard the devices on external networks: `wants` has their names by network.

        One that has lost its carrier is refused, too. Devices that are wanted no
        more are let go.
        """
        ...

    def check_outside(self, wants: Mapping[str, str]) -> tuple[Outside, ...]:
        """Those of these devices that are up and have our program, by network."""
        ...

    def refresh(self, nodes: Mapping[int, Address]) -> set[int]:
        """Renew plum_path, by node index, from the kernel's routes and neighbours.

        Answers the nodes for which the kernel has no neighbour yet; it is asking.
        """
        ...

    def dump(self, table: str) -> dict[bytes, bytes]: ...

    def image(self, table: str, keys: Iterable[bytes]) -> bytes:
        """A hash of the table's rows; of an array's up to the highest of `keys`. Equal
        while the rows are."""
        ...

    def write(self, table: str, rows: Mapping[bytes, bytes]) -> None: ...

    def erase(self, table: str, keys: Sequence[bytes]) -> None: ...

    def forget(self, slots: Collection[int]) -> None:
        """Zero the counters of slots that got a new owner."""
        ...

    def collect(self, slot: int | None = None) -> None:
        """Collect idle flows, and all flows of `slot`."""
        ...

    def settle(self) -> None:
        """Everything runs under this build: give up what an older one left."""
        ...
