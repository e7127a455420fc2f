"""Which faults a seed means: a list that is the same each time. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    KILL = "kill"  # -9
    PAUSE = "pause"  # SIGSTOP, later SIGCONT
    CUT = "cut"  # the node's cable to the underlay is pulled
    ISOLATE = "isolate"  # the node reaches nobody's store or API, its overlay goes on
    FILL = "fill"  # the store's disk is full
    CLOCK = "clock"  # CLOCK_REALTIME steps, and back
    COMPACT = "compact"  # all history goes, under load
    EXPIRE = "expire"  # the node's certificate ends before it is renewed
    BLANK = "blank"  # the plumd starts anew on a store that holds nothing


PLUMDS, MEMBERS, CLIENTS, DISKS, STORE = "plumd", "member", "client", "disk", "store"

#: Seconds a fault lasts, at least and at most.
HOLD_S = {
    Kind.KILL: (0.2, 2.0),
    Kind.PAUSE: (0.5, 4.0),
    Kind.CUT: (0.5, 4.0),
    Kind.ISOLATE: (0.5, 4.0),
    Kind.FILL: (0.5, 2.0),
    Kind.CLOCK: (1.5, 3.0),
    Kind.COMPACT: (0.0, 0.2),
    Kind.EXPIRE: (0.5, 2.0),
    Kind.BLANK: (2.0, 3.5),
}
TOGETHER = 0.5  # of the groups are two at once


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    target: str  # plumd:n1, client:holder-1, store
    hold_s: float
    amount: float = 0.0  # clock: seconds it steps

    def __str__(self) -> str:
        step = f" by {self.amount:+.0f} s" if self.amount else ""
        return f"{self.kind} of {self.target}{step} for {self.hold_s:.1f} s"

    @property
    def name(self) -> str:
        """The plumd, client or member itself."""
        return self.target.partition(":")[2]

    @property
    def process(self) -> str:
        """As the sandbox calls it."""
        return f"{self.name}.etcd" if self.target.startswith(MEMBERS) else self.name

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def targets(
    nodes: Sequence[str], members: Sequence[str], clients: Sequence[str]
) -> dict[Kind, list[str]]:
    """What each kind of fault may hit. Watchers are witnesses: nobody hurts them."""
    plumds = [f"{PLUMDS}:{node}" for node in nodes]
    etcds = [f"{MEMBERS}:{node}" for node in members]
    victims = [f"{CLIENTS}:{name}" for name in clients]
    holders = [victim for victim in victims if "holder" in victim]
    of = {
        Kind.KILL: plumds + etcds * 2 + victims,
        Kind.PAUSE: plumds + etcds + holders,
        Kind.CUT: plumds,
        Kind.FILL: [f"{DISKS}:{disk}" for disk in members or ["all"]],
        Kind.CLOCK: plumds + holders,
        Kind.COMPACT: [STORE],
        Kind.EXPIRE: plumds,
        Kind.BLANK: plumds,
    }
    return of | ({Kind.ISOLATE: plumds} if members else {})


def plan(
    seed: int, count: int, of: dict[Kind, list[str]], longest_s: float = 4.0
) -> Iterator[tuple[Fault, ...]]:
    """Groups of one or two faults, `count` in all; each kind comes up before any does again."""
    choose = random.Random(seed)
    kinds: list[Kind] = []
    left = count
    while left > 0:
        group: list[Fault] = []
        for _ in range(2 if left > 1 and choose.random() < TOGETHER else 1):
            kinds = kinds or choose.sample(list(of), len(of))
            fault = _fault(choose, kinds.pop(), of, longest_s)
            if fault.target in [other.target for other in group]:
                kinds.append(fault.kind)
                break  # one at a time for one target
            group.append(fault)
        left -= len(group)
        yield tuple(group)


def _fault(choose: random.Random, kind: Kind, of: dict[Kind, list[str]], longest_s: float) -> Fault:
    least, most = HOLD_S[kind]
    amount = choose.choice([-1, 1]) * choose.uniform(3, 40) if kind is Kind.CLOCK else 0.0
    hold_s = choose.uniform(min(least, longest_s), min(most, longest_s))
    return Fault(kind, choose.choice(of[kind]), round(hold_s, 2), round(amount))
