"""Maglev tables: fair shares, and little moves when a backend comes or goes."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from daemon.abi import MAGLEV_SLOTS
from daemon.compiler.maglev import maglev_table

Backends = tuple[tuple[bytes, int], ...]


def backends(count: int, random: Random, weights: tuple[int, ...] = (1,)) -> Backends:
    return tuple((random.randbytes(16), random.choice(weights)) for _ in range(count))


def owners(found: Backends) -> list[bytes]:
    return [found[index][0] for index in maglev_table(found)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 100])
def test_one_of_n_takes_at_most_its_share_and_two_percent(count: int) -> None:
    for seed in range(4):
        random = Random(seed)
        full = backends(count + 1, random)
        gone = random.randrange(len(full))
        rest = full[:gone] + full[gone + 1 :]
        before, after = owners(full), owners(rest)
        moved = sum(old != new for old, new in zip(before, after, strict=True))
        share = before.count(full[gone][0])
        assert share <= moved <= share + 0.02 * MAGLEV_SLOTS


def test_shares_follow_the_weights() -> None:
    for seed in range(10):
        random = Random(seed)
        found = backends(random.randint(1, 30), random, (1, 1, 2, 5, 100))
        counts = Counter(maglev_table(found))
        total = sum(weight for _, weight in found)
        for index, (_, weight) in enumerate(found):
            assert abs(counts[index] - weight / total * MAGLEV_SLOTS) <= weight + 1
