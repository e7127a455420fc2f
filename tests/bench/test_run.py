from __future__ import annotations

import pytest

from bench.netns import CommandFailed
from bench.plan import Plan, quick
from bench.result import Measurement, at_most
from bench.run import (
    EXIT_BAR_MISSED,
    EXIT_NOT_MEASURED,
    SUITES,
    load_suites,
    parse,
    report,
    run_suites,
)


def test_all_suites_are_the_default_and_can_be_loaded() -> None:
    assert tuple(parse([]).suite) == SUITES
    assert tuple(load_suites(SUITES)) == SUITES


def test_without_plum_only_contenders_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--without-plum"]).suite == ["forwarding", "rules", "nat"]
    with pytest.raises(SystemExit):
        parse(["cli", "--without-plum"])
    assert "measure Plum alone" in capsys.readouterr().err


def test_an_unknown_suite_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as refused:
        parse(["speed"])
    assert refused.value.code == 2


def test_a_suite_that_cannot_measure_does_not_stop_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(plan: Plan) -> list[Measurement]:
        raise CommandFailed("no such device")

    def fine(plan: Plan) -> list[Measurement]:
        return [Measurement("x", "s", (1.0,), at_most(2))]

    outcome = run_suites({"broken": broken, "fine": fine}, quick())
    assert report(outcome, keep=False) == EXIT_NOT_MEASURED
    shown = capsys.readouterr()
    assert "broken: not measured: no such device" in shown.err
    assert "| x | 1 |" in shown.out


def test_a_missed_bar_is_an_exit_code() -> None:
    missed = [Measurement("x", "s", (3.0,), at_most(2))]
    assert report({"late": missed}, keep=False) == EXIT_BAR_MISSED
    assert report({"fine": [Measurement("x", "s", (2.0,), at_most(2))]}, keep=False) == 0
