"""The last probes to one peer, and what they say. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: Probes that count for loss and latency.
WINDOW = 60
#: So many in a row without an answer: unreachable. One answer: reachable.
LOST_IN_A_ROW = 3
#: An answer that comes later counts as none.
TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class PeerState:
    """Of the last WINDOW probes. Times in seconds; None: nothing came back."""

    sent: int
    lost: int
    median_s: float | None
    p99_s: float | None
    reachable: bool


@dataclass(slots=True)
class Window:
    _waiting: dict[int, float] = field(default_factory=dict)  # by sequence number: sent at
    _results: deque[float | None] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _lost_in_a_row: int = 0
    _answered_ever: bool = False

    def sent(self, sequence: int, now: float) -> None:
        self._waiting[sequence] = now

    def answered(self, sequence: int, now: float) -> None:
        """Answers nobody waits for (too late, twice, made up) change nothing."""
        asked = self._waiting.pop(sequence, None)
        if asked is not None:
            self._results.append(now - asked)
            self._lost_in_a_row = 0
            self._answered_ever = True

    def expire(self, now: float) -> None:
        """Give up on what was sent longer ago than TIMEOUT_S."""
        for sequence in [s for s, asked in self._waiting.items() if now - asked > TIMEOUT_S]:
            del self._waiting[sequence]
            self._results.append(None)
            self._lost_in_a_row += 1

    def state(self) -> PeerState:
        times = sorted(result for result in self._results if result is not None)
        return PeerState(
            sent=len(self._results),
            lost=len(self._results) - len(times),
            median_s=_share(times, 0.5),
            p99_s=_share(times, 0.99),
            reachable=self._lost_in_a_row < LOST_IN_A_ROW,
        )


def _share(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None
