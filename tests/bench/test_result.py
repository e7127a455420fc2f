from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.result import Bar, Measurement, at_most, markdown, row, write

ROWS = [
    Measurement("plum: cost", "ns", (650.04, 690.0, 710.0), at_most(700)),
    Measurement("veth: packets", "pps", (1_234_567.8,)),
]


def test_a_row_has_the_five_agreed_fields() -> None:
    assert row(ROWS[0]) == {
        "name": "plum: cost",
        "value": 690.0,
        "unit": "ns",
        "must": "<= 700",
        "holds": True,
    }


def test_without_a_bar_nothing_holds_or_fails() -> None:
    assert row(ROWS[1]) == {
        "name": "veth: packets",
        "value": 1234568.0,
        "unit": "pps",
        "must": None,
        "holds": None,
    }


@pytest.mark.parametrize(
    ("sense", "value", "holds"),
    [("<=", 5.0, True), ("<=", 5.01, False), (">=", 5.0, True), (">=", 4.99, False)],
)
def test_a_bar_includes_its_limit(sense: str, value: float, holds: bool) -> None:
    bar = Bar("<=" if sense == "<=" else ">=", 5)
    assert Measurement("x", "ms", (value,), bar).holds is holds


def test_the_figure_before_rounding_is_judged() -> None:
    measured = Measurement("x", "ns", (700.04,), at_most(700))
    assert row(measured)["value"] == 700.0
    assert measured.holds is False


def test_written_files_are_a_list_a_table_and_the_rounds(tmp_path: Path) -> None:
    write("forwarding", ROWS, tmp_path)
    assert json.loads((tmp_path / "forwarding.json").read_text()) == [row(one) for one in ROWS]
    assert (tmp_path / "forwarding.md").read_text().startswith("# forwarding\n")
    rounds = json.loads((tmp_path / "rounds" / "forwarding.json").read_text())
    assert rounds["measurements"][0]["figures"] == [650.04, 690.0, 710.0]
    assert set(rounds["machine"]) == {"cpu", "cpus", "kernel", "load_average"}


def test_the_table_shows_median_range_and_verdict() -> None:
    table = markdown("forwarding", [*ROWS, Measurement("late", "s", (4.0,), at_most(3))])
    assert "| plum: cost | 690 | 650 to 710 | ns | <= 700 | yes |" in table
    assert "| veth: packets | 1234568 |  | pps |  |  |" in table
    assert "| late | 4 |  | s | <= 3 | **no**, by 33% |" in table
