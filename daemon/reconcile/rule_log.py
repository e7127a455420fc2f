"""Decisions of rules with a log: from the kernel's events to lines with names.

A bounded number of lines is kept, each with a number that also later runs of plumd never
give again, so that whoever follows them can say how far it has read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address

from daemon.abi import RuleLog
from daemon.compiler.result import Names
from daemon.model.base import Address
from daemon.model.object import Endpoint
from daemon.model.snapshot import Snapshot

log = logging.getLogger(__name__)

KEPT = 10_000

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
_WITH_PORTS = ("tcp", "udp", "sctp")
_ICMP = ("icmp", "icmp6")


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One connection that a rule decided."""

    number: int
    time: str  # RFC 3339
    domain: str
    rule: str  # its path in the domain
    verdict: str  # allowed or refused
    direction: str  # ingress or egress
    endpoint: str  # whose rule it is
    source: str | None  # endpoints that own the addresses
    target: str | None
    source_address: str
    target_address: str
    protocol: str
    source_port: int | None
    target_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    lost: int  # of this endpoint that were not written down since its last line


class RuleLines:
    """The newest lines of this node."""

    def __init__(self, clock_ns: Callable[[], int], kept: int = KEPT) -> None:
        self._clock_ns = clock_ns
        self._lines: deque[RuleLine] = deque(maxlen=kept)
        self._owners: tuple[Mapping[str, Endpoint] | None, dict[tuple[str, Address], str]]
        self._owners = (None, {})

    def hear(self, event: RuleLog, names: Names, snapshot: Snapshot) -> None:
        """Keep it and write it to plumd's log. What is gone meanwhile has no name: no line."""
        endpoint, known = names.slots.get(event.slot), names.rules.get(event.rule)
        if endpoint is None or known is None or names.domains.get(event.domain) != known[0]:
            return
        now_ns = self._clock_ns()
        line = self._line(event, max(now_ns, self.read + 1), endpoint, known, snapshot)
        self._lines.append(line)
        said = {k: v for k, v in asdict(line).items() if v is not None and k not in _NOT_SAID}
        log.info("rule decided", extra={"object": endpoint, "step": "policy", "counts": said})

    @property
    def read(self) -> int:
        """Number of the newest line; 0: there is none yet."""
        return self._lines[-1].number if self._lines else 0

    def after(self, number: int) -> Iterator[RuleLine]:
        """Lines with a higher number, oldest first."""
        return (line for line in tuple(self._lines) if line.number > number)

    def _line(
        self,
        event: RuleLog,
        number: int,
        endpoint: str,
        rule: tuple[str, str],
        snapshot: Snapshot,
    ) -> RuleLine:
        protocol = _PROTOCOLS.get(event.proto, str(event.proto))
        ports, icmp = protocol in _WITH_PORTS, protocol in _ICMP
        source, target = _address(event.saddr), _address(event.daddr)
        owners = self._owners_in(snapshot)
        moment = datetime.fromtimestamp(self._clock_ns() / 1e9, UTC)
        return RuleLine(
            number=number,
            time=moment.isoformat(timespec="milliseconds"),
            domain=rule[0],
            rule=rule[1],
            verdict="allowed" if event.allowed else "refused",
            direction=rule[1].split("/")[1],
            endpoint=endpoint,
            source=owners.get((rule[0], source)),
            target=owners.get((rule[0], target)),
            source_address=str(source),
            target_address=str(target),
            protocol=protocol,
            source_port=event.sport if ports else None,
            target_port=event.dport if ports else None,
            icmp_type=event.icmp_type if icmp else None,
            icmp_code=event.icmp_code if icmp else None,
            lost=event.lost,
        )

    def _owners_in(self, snapshot: Snapshot) -> Mapping[tuple[str, Address], str]:
        """Endpoints by domain and address; worked out anew when they have changed."""
        if self._owners[0] is not snapshot.endpoints:
            found = {
                (path.rpartition("/")[0], address): path
                for path, one in snapshot.endpoints.items()
                for address in one.addresses
            }
            self._owners = (snapshot.endpoints, found)
        return self._owners[1]


_NOT_SAID = ("number", "time", "endpoint")


def _address(raw: bytes) -> Address:
    address = IPv6Address(raw)
    return address.ipv4_mapped or address
