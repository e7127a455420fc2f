"""From what director and agents say to figures. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Revision, due, begun, written (monotonic seconds), nodes concerned.
Change = tuple[int, float, float, float, Sequence[str]]
#: Revision, when it was compiled, seconds of CPU of the compilation.
Compiled = tuple[int, float, float]


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds from a moment of the change to compiled on the last node concerned."""

    asked: tuple[float, ...]  # since it was due
    written: tuple[float, ...]  # since the store had it
    missing: int  # changes that a node never compiled


def delays(changes: Iterable[Change], compiled: Mapping[str, Sequence[Compiled]]) -> Delays:
    """Of each change, on all nodes that are simulated and that it concerns."""
    revisions = {node: [one[0] for one in some] for node, some in compiled.items()}
    asked, written, missing = [], [], 0
    for revision, due, _, at, nodes in changes:
        ends = []
        for node in nodes:
            place = bisect_left(revisions.get(node, []), revision)
            found = compiled[node][place : place + 1] if node in compiled else ()
            ends += [one[1] for one in found]
        if len(ends) < len(nodes):
            missing += 1
            continue
        asked.append(1000 * (max(ends) - due))
        written.append(1000 * max(0.0, max(ends) - at))
    return Delays(tuple(asked), tuple(written), missing)


@dataclass(frozen=True, slots=True)
class Peak:
    at_once: int  # reads under way at the same moment
    mib_per_s: float  # in the busiest tenth of a second
    reads: int
    mib: float
    seconds: float  # from the first to the end of the last


def peak(reads: Sequence[tuple[float, float, int]], window_s: float = 0.1) -> Peak:
    """How hard reads (start, end, bytes) came at the store."""
    if not reads:
        return Peak(0, 0.0, 0, 0.0, 0.0)
    moments = sorted([(one[0], 1) for one in reads] + [(one[1], -1) for one in reads])
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    start = moments[0][0]
    windows: dict[int, int] = {}
    for _, end, count in reads:
        number = int((end - start) / window_s)
        windows[number] = windows.get(number, 0) + count
    total = sum(one[2] for one in reads)
    mib = 1 << 20
    return Peak(
        most,
        max(windows.values()) / mib / window_s,
        len(reads),
        total / mib,
        moments[-1][0] - start,
    )
