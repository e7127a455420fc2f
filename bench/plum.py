"""Plum as a contender, and a zone of it for the suites that measure it alone.

The nodes stand on the ground of `topology.two_nodes`: the underlay is one veth
pair, as for every contender, without the switch that `plumctl sandbox` puts
between its nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.loadtool import Ends
from bench.manifests import Manifest
from bench.topology import Contender, ContenderFailed

NAME = "plum"


@dataclass
class Node:
    """One plumd under our hand."""

    name: str
    netns: str
    socket: Path
    pid: int

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        raise ContenderFailed("plumd cannot be started yet")

    def start(self) -> None:
        """Start plumd and wait until its API answers."""
        raise ContenderFailed("plumd cannot be started yet")

    def resident_mb(self) -> float:
        """VmRSS of plumd in megabytes (10^6 bytes); proc_pid_status(5)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        return kib * 1024 / 1e6


@dataclass
class Zone:
    nodes: Sequence[Node]
    #: What plumctl needs in its environment to find the zone.
    environment: dict[str, str] = field(default_factory=dict)

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply, and return when every node has programmed it."""
        raise ContenderFailed("plumd cannot be started yet")

    def delete(self, manifests: Sequence[Manifest]) -> None:
        raise ContenderFailed("plumd cannot be started yet")


def zone(prefix: str, nodes: int) -> AbstractContextManager[Zone]:
    """Nodes with their daemons; gone at the end with all they made."""
    raise ContenderFailed("plumd cannot be started yet")


def contender(rules: int = 5) -> Contender:
    """Client and server in two subnets on two nodes, routed, with `rules` rules."""

    @contextmanager
    def build(prefix: str, version: int) -> Iterator[Ends]:
        raise ContenderFailed("plumd cannot be started yet")
        yield

    return Contender(NAME, build, True)
