"""Windows of time: when they are open, and when that changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon.model.schedule import Day, Window, is_open, next_edge
from tests.oracle import is_open_by_the_clock

OFFICE = {"days": ["mon", "fri"], "hours": "08:00-18:00", "zone": "Europe/Berlin"}


def windows(*given: dict[str, Any]) -> tuple[Window, ...]:
    return tuple(Window.model_validate(one) for one in given)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T07:59:59", False),  # a Monday
        ("2026-11-23T08:00:00", True),
        ("2026-11-23T17:59:59", True),
        ("2026-11-23T18:00:00", False),
        ("2026-11-24T12:00:00", False),
        ("2026-07-20T08:00:00", True),  # summer: another offset, the same clock
        ("2026-07-20T07:59:00", False),
    ],
)
def test_a_window_goes_by_the_clocks_of_its_place(text: str, expected: bool) -> None:
    assert is_open(windows(OFFICE), berlin(text)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T21:59", False),
        ("2026-11-23T22:00", True),
        ("2026-11-24T05:59", True),
        ("2026-11-24T06:00", False),
        ("2026-11-24T23:00", False),  # begins on Mondays
    ],
)
def test_hours_past_midnight_belong_to_the_day_they_begin_on(text: str, expected: bool) -> None:
    night = {"days": ["mon"], "hours": "22:00-06:00", "zone": "Europe/Berlin"}
    assert is_open(windows(night), berlin(text)) is expected


def test_the_next_edge_is_the_next_change() -> None:
    given = windows(OFFICE)
    assert next_edge(given, berlin("2026-11-23T07:00")) == berlin("2026-11-23T08:00")
    assert next_edge(given, berlin("2026-11-23T08:00")) == berlin("2026-11-23T18:00")
    assert next_edge(given, berlin("2026-11-23T18:00")) == berlin("2026-11-27T08:00")
    assert next_edge((), berlin("2026-11-23T18:00")) is None


def test_without_windows_it_is_always_open() -> None:
    assert is_open((), datetime.now(UTC))


@pytest.mark.parametrize("seed", range(40))
def test_between_edges_nothing_changes_and_every_minute_is_as_the_clock_says(seed: int) -> None:
    random = Random(seed)
    given = []
    for _ in range(random.randint(1, 3)):
        start, end = random.sample(range(1, 96), 2)
        hours = "-".join(f"{n // 4:02}:{n % 4 * 15:02}" for n in (start, end))
        zone = random.choice(("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"))
        days = random.sample([str(day) for day in Day], random.randint(1, 7))
        given.append({"days": days, "hours": hours, "zone": zone})
    made = windows(*given)
    moment = datetime(2026, 11, 9, tzinfo=UTC) + timedelta(minutes=random.randrange(20_000))
    for _ in range(20):
        edge = next_edge(made, moment)
        assert edge is not None and edge > moment
        state = is_open(made, moment)
        for part in range(5):
            between = moment + (edge - moment) * part / 5
            assert is_open(made, between) is state
            assert is_open_by_the_clock(made, between) is state
        moment = edge
