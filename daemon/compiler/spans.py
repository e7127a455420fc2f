"""First match over the 65,536 values of a 16-bit "port"."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple

LAST_PORT = 0xFFFF
NO_ORDER = 0xFFFFFFFF


class Claim(NamedTuple):
    """A rule's hold on an interval of ports. Lower `order` wins."""

    order: int
    first: int
    last: int
    rule: int
    action: int
    log: int = 0


def first_match(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Disjoint claims, by port, of the rule that comes first on each interval.

    Ports nobody claims are in no claim of the answer. O(n log n).
    """
    if len(claims) == 1:
        return tuple(claims)
    waiting = sorted(claims, key=lambda claim: claim.first, reverse=True)
    active: list[Claim] = []
    result: list[Claim] = []
    port = 0
    while waiting or active:
        if not active:
            port = max(port, waiting[-1].first)
        while waiting and waiting[-1].first <= port:
            heappush(active, waiting.pop())
        while active and active[0].last < port:
            heappop(active)
        if not active:
            continue
        best = active[0]
        last = min(best.last, waiting[-1].first - 1) if waiting else best.last
        previous = result[-1] if result else None
        if previous and previous.order == best.order and previous.last == port - 1:
            result[-1] = previous._replace(last=last)
        else:
            result.append(best._replace(first=port, last=last))
        port = last + 1
    return tuple(result)
