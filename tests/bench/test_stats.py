from __future__ import annotations

import pytest

from bench.stats import interleave, percentile, ratios, tax_ns, taxes_ns


def test_tax_is_the_time_a_packet_takes_beyond_bare_veth() -> None:
    assert tax_ns(pps=500_000, bare_pps=1_000_000) == pytest.approx(1000)
    assert tax_ns(pps=1_000_000, bare_pps=1_000_000) == 0


def test_taxes_pair_the_figures_of_one_round() -> None:
    assert taxes_ns([500_000, 250_000], [1_000_000, 500_000]) == pytest.approx([1000, 2000])
    assert ratios([1, 3], [2, 4]) == [0.5, 0.75]


def test_rounds_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError):
        taxes_ns([1, 2], [1])


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 50), (98.5, 99), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        percentile([], 99)


def test_rounds_are_interleaved() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    figures = interleave(2, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert order == ["a", "b", "a", "b"]
    assert figures == {"a": [1, 3], "b": [2, 4]}
