"""When a rule counts: weekdays and hours, by the clocks of a place."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, PlainSerializer

from daemon.model.base import Model

DAY_MINUTES = 24 * 60


class Day(StrEnum):
    """In the order of `date.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


EVERY_DAY = tuple(Day)


class Hours(Model):
    """Minutes since midnight. An end that is not after the start is of the next day."""

    start_min: int = Field(ge=0, lt=DAY_MINUTES)
    end_min: int = Field(gt=0, le=DAY_MINUTES)


_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")


def _hours(value: object) -> object:
    if isinstance(value, Hours | dict):
        return value
    found = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be hours such as "08:00-18:00" or "22:00-06:00"')
    numbers = [int(part) for part in found.groups()]
    start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if end > DAY_MINUTES or start == end:
        raise ValueError('must be hours such as "08:00-18:00"; the whole day is "00:00-24:00"')
    return {"start_min": start, "end_min": end or DAY_MINUTES}


def _hours_text(hours: Hours) -> str:
    times = (hours.start_min, hours.end_min)
    return "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in times)


HoursText = Annotated[
    Hours, BeforeValidator(_hours), PlainSerializer(_hours_text, when_used="json")
]


class Window(Model):
    #: On which the hours begin.
    days: tuple[Day, ...] = Field(default=EVERY_DAY, min_length=1)
    hours: HoursText = Hours(start_min=0, end_min=DAY_MINUTES)
    #: Of the IANA database.
    zone: str = "UTC"


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """None: there is no such time zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _spans(window: Window, moment: datetime) -> list[tuple[datetime, datetime]]:
    """Times in UTC in which the window is open, from yesterday on until it opened anew."""
    zone = zone_named(window.zone)
    if zone is None:
        return []
    today = moment.astimezone(zone).date()
    found = []
    for offset in range(-2, 9):
        day = today + timedelta(days=offset)
        if EVERY_DAY[day.weekday()] in window.days:
            end = window.hours.end_min
            later = 0 if end > window.hours.start_min else 1
            opens = _at(day, window.hours.start_min, zone)
            found.append((opens, _at(day + timedelta(days=later), end, zone)))
    return found


def _at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """By the clocks there, in UTC. A time that a change of clocks skips is as much later."""
    day += timedelta(days=minutes // DAY_MINUTES)
    minutes %= DAY_MINUTES
    local = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone)
    return local.astimezone(UTC)


def is_open(windows: tuple[Window, ...], moment: datetime) -> bool:
    """Whether one of the windows is open; without any it always is."""
    if not windows:
        return True
    return any(a <= moment < b for window in windows for a, b in _spans(window, moment))


def next_edge(windows: tuple[Window, ...], moment: datetime) -> datetime | None:
    """The next moment at which one opens or closes; None: never."""
    edges = (edge for window in windows for span in _spans(window, moment) for edge in span)
    return min((edge for edge in edges if edge > moment), default=None)
