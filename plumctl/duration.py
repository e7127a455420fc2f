"""Lengths of time as people write them: `90m`, `12h`, `30d`."""

from __future__ import annotations

import re

from plumctl.errors import ExitCode, PlumError

_SHAPE = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def is_one(text: str) -> bool:
    return _SHAPE.fullmatch(text) is not None


def seconds(text: str) -> int:
    """Raises PlumError."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        hint = "write a number and s, m, h or d: 90m, 12h, 30d"
        raise PlumError(f"{text!r} is no length of time", hint, ExitCode.USAGE)
    return int(match[1]) * _UNITS_S[match[2]]
