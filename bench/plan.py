"""How much a run measures, and with whom."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: float  #: length of one measurement
    versions: tuple[int, ...]  #: IP versions
    creations: int  #: endpoints created one at a time
    outage_s: float  #: how long the daemons stay dead in the restart suite
    with_plum: bool = True

    @property
    def prefix(self) -> str:
        """Of every namespace this run makes."""
        return f"bench{os.getpid()}"


def full(with_plum: bool = True) -> Plan:
    return Plan(7, 2.0, (4, 6), 200, 3.0, with_plum)


def quick(with_plum: bool = True) -> Plan:
    """All suites in two minutes: shows that they work, proves little."""
    return Plan(3, 0.25, (4,), 25, 1.0, with_plum)
