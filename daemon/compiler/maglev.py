"""Maglev hashing: which backend a connection's hash falls to.

After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
Balancer" (NSDI 2016), section 3.4: every backend has its own order of the
table's slots and takes the next free one in turn, as often as its weight says.
When one of N comes or goes, little more than its own share changes hands.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from daemon.abi import MAGLEV_SLOTS


@lru_cache(maxsize=256)
def maglev_table(backends: tuple[tuple[bytes, int], ...]) -> array[int]:
    """Index of a backend for each of MAGLEV_SLOTS slots.

    `backends`: name and weight of at least 1; not empty, at most 65535.
    """
    positions, steps = zip(*(_permutation(name) for name, _ in backends), strict=True)
    table = array("H", bytes(2 * MAGLEV_SLOTS))
    _fill(table, list(positions), steps, _turns([weight for _, weight in backends]))
    return table


def _permutation(name: bytes) -> tuple[int, int]:
    """First slot and step: MAGLEV_SLOTS is prime, so every step visits every slot."""
    digest = blake2b(name, digest_size=16, person=b"maglev").digest()
    first = int.from_bytes(digest[:8], "little") % MAGLEV_SLOTS
    return first, int.from_bytes(digest[8:], "little") % (MAGLEV_SLOTS - 1) + 1


def _turns(weights: Sequence[int]) -> list[int]:
    """Who takes a slot, in the order of one round; spread, not in a row."""
    total = max(weights)
    return [
        index
        for turn in range(total)
        for index, weight in enumerate(weights)
        if (turn + 1) * weight // total > turn * weight // total
    ]


def _fill(
    table: array[int], positions: list[int], steps: Sequence[int], turns: Sequence[int]
) -> None:
    size, left = MAGLEV_SLOTS, MAGLEV_SLOTS
    taken = bytearray(size)
    while True:
        for index in turns:
            slot, step = positions[index], steps[index]
            while taken[slot]:
                slot += step
                if slot >= size:
                    slot -= size
            taken[slot] = 1
            table[slot] = index
            left -= 1
            if not left:
                return
            slot += step
            positions[index] = slot - size if slot >= size else slot
