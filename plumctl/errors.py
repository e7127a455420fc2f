"""Expected failures: what went wrong, what to do next, which exit code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What plumctl exits with; documented in docs/cli.md."""

    OK = 0
    FAILED = 1  # refused or failed; for `diff`: it differs
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    NO_PERMISSION = 5
    CONFLICT = 6
    TIMED_OUT = 7
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what was given, and where it stands there."""

    path: str
    message: str


class PlumError(Exception):
    """An expected failure. `hint` names the next step; always give one."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        exit_code: int = ExitCode.FAILED,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = int(exit_code)
        self.problems = problems
