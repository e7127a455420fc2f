"""What goes into the compiler and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from daemon.abi import Row
from daemon.compiler.errors import CompileError

#: Key -> value of one map: the NamedTuples that `daemon.abi.MAPS` names.
Table = dict[Row, Row]
Rows = dict[str, Table]
#: The same as the kernel holds it.
Packed = dict[str, dict[bytes, bytes]]


def pack(rows: Rows) -> Packed:
    return {
        table: {key.pack(): value.pack() for key, value in content.items()}
        for table, content in rows.items()
    }


@dataclass(frozen=True, slots=True)
class Device:
    """The device packets of a local endpoint come from."""

    ifindex: int
    tap: bool = False


@dataclass(frozen=True, slots=True)
class Outside:
    """A gateway's device on an external network."""

    network: str
    ifindex: int
    mac: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """What only the running node knows; most of it becomes its row of plum_config."""

    underlay_ifindex: int
    outside: tuple[Outside, ...] = ()
    #: External network and gateway, of those that do not answer.
    down: frozenset[tuple[str, str]] = frozenset()
    #: By path of their domain: balancer and endpoint, of backends that fail their checks.
    sick: tuple[tuple[str, frozenset[tuple[str, str]]], ...] = ()
    tcp_established_s: int = 7200
    tcp_transient_s: int = 60
    udp_s: int = 30
    udp_stream_s: int = 180
    icmp_s: int = 30
    punt_per_s: int = 100
    dns_per_s: int = 1000
    log_per_s: int = 20


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers in rows, counters and traces stand for."""

    rules: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Rule id -> (domain path, "policy/ingress/rule")."""
    slots: dict[int, str] = field(default_factory=dict)
    """Slot on this node -> endpoint path."""
    nodes: dict[int, str] = field(default_factory=dict)
    domains: dict[int, str] = field(default_factory=dict)
    """Domain id -> domain path."""
    bridges: dict[int, tuple[str, str]] = field(default_factory=dict)
    """VNI -> (domain path, bridge)."""
    routers: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Router id -> (domain path, router)."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything the maps of one node must hold, run-time state apart."""

    rows: Rows
    names: Names
    mtu: dict[str, int]
    """Bytes of the largest IP packet of each local endpoint, by path."""
    packed: Packed
    """`rows` as bytes."""
    errors: dict[str, CompileError]
    """Domains that did not compile. They have no rows: their endpoints are closed."""
    until: datetime | None = None
    """When a rule begins or ceases to count: compile again then. None: never."""
