"""Refusals that one caller repeats: written down one by one at first, then counted.

Else whoever is refused could fill the audit log until what matters has been rotated away.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

#: So many of a caller in a window are lines of their own.
ONE_BY_ONE = 20
WINDOW_S = 60.0
#: Callers kept apart. More at once share what is left of the windows they push out.
MAX_CALLERS = 4096

E = TypeVar("E")


@dataclass(slots=True)
class _Window(Generic[E]):
    start: float  # Unix time, seconds
    last: E
    written: int = 0
    counted: int = 0


class Repeats(Generic[E]):
    """Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._windows: dict[Hashable, _Window[E]] = {}  # oldest first

    def is_one_too_many(self, caller: Hashable, entry: E, now: float) -> bool:
        """Whether to count it only. Call `ended` before."""
        window = self._windows.setdefault(caller, _Window(now, entry))
        window.last = entry
        if window.written < ONE_BY_ONE:
            window.written += 1
            return False
        window.counted += 1
        return True

    def ended(self, now: float) -> Iterator[tuple[E, int, float]]:
        """Windows that are over and counted something: the last of it, how many, since when."""
        while self._windows:
            caller = next(iter(self._windows))
            window = self._windows[caller]
            over = not window.start <= now < window.start + WINDOW_S  # or the clock went back
            if not over and len(self._windows) < MAX_CALLERS:
                return
            del self._windows[caller]
            if window.counted:
                yield window.last, window.counted, window.start
