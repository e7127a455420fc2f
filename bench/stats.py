"""Rounds of figures: their middle, their spread, and what a packet costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Figure = TypeVar("Figure")


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def percentile(figures: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest figure that `percent` of all do not exceed."""
    if not figures:
        raise ValueError("no figures")
    rank = max(1, math.ceil(len(figures) * percent / 100))
    return sorted(figures)[rank - 1]


def tax_ns(pps: float, bare_pps: float) -> float:
    """What one packet costs beyond a bare veth pair, from packets per second."""
    return 1e9 / pps - 1e9 / bare_pps


def ratios(figures: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round: neighbours in time share the machine's mood."""
    return [figure / other for figure, other in zip(figures, others, strict=True)]


def taxes_ns(pps: Sequence[float], bare_pps: Sequence[float]) -> list[float]:
    """`tax_ns` round by round."""
    return [tax_ns(one, bare) for one, bare in zip(pps, bare_pps, strict=True)]


def interleave(
    rounds: int, measurements: Mapping[str, Callable[[], Figure]]
) -> dict[str, list[Figure]]:
    """A-B-C-A-B-C: drift of the machine meets every contender alike."""
    figures: dict[str, list[Figure]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            figures[name].append(measure())
    return figures
