"""First match over ports, against reading the claims one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.compiler.spans import Claim, first_match


def claim(order: int, first: int, last: int) -> Claim:
    return Claim(order, first, last, 1000 + order, 1)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], []),
        ([(0, 80, 80)], [(0, 80, 80)]),
        ([(0, 80, 90), (1, 85, 100)], [(0, 80, 90), (1, 91, 100)]),
        ([(1, 0, 65535), (0, 443, 443)], [(1, 0, 442), (0, 443, 443), (1, 444, 65535)]),
        ([(0, 0, 65535), (1, 443, 443)], [(0, 0, 65535)]),
        ([(0, 10, 20), (0, 21, 30)], [(0, 10, 30)]),
        ([(0, 10, 20), (0, 15, 30), (1, 0, 65535)], [(1, 0, 9), (0, 10, 30), (1, 31, 65535)]),
        ([(2, 0, 0), (3, 65535, 65535)], [(2, 0, 0), (3, 65535, 65535)]),
    ],
)
def test_first_match(
    claims: list[tuple[int, int, int]], expected: list[tuple[int, int, int]]
) -> None:
    assert first_match([claim(*c) for c in claims]) == tuple(claim(*e) for e in expected)


SMALL = st.integers(0, 40)


@given(st.lists(st.tuples(st.integers(0, 6), SMALL, SMALL), max_size=12))
def test_every_port_is_held_by_the_lowest_order_that_claims_it(
    drawn: list[tuple[int, int, int]],
) -> None:
    claims = [claim(order, min(a, b), max(a, b)) for order, a, b in drawn]
    result = first_match(claims)
    for port in range(42):
        wanted = min((c.order for c in claims if c.first <= port <= c.last), default=None)
        holders = [c.order for c in result if c.first <= port <= c.last]
        assert holders == ([] if wanted is None else [wanted])
    assert list(result) == sorted(result, key=lambda c: c.first)
