"""The only printer: rows become a table, JSON, YAML, names or what a jsonpath finds.

Data goes to stdout, everything else to stderr. Colour and bold only on a
terminal and without NO_COLOR. Cells are never cut. Text that came from
elsewhere is made inert first.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.text import inert, width_columns

T = TypeVar("T")

FORMATS = ("table", "wide", "json", "yaml", "name", "jsonpath=")

_BOLD, _RED, _GREEN, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_WORD_COLOURS = {
    "programmed": _GREEN,
    "ready": _GREEN,
    "running": _GREEN,
    "pending": _YELLOW,
    "error": _RED,
    "dead": _RED,
    "created": _GREEN,
    "changed": _YELLOW,
    "deleted": _RED,
    "refused": _RED,
    "failed": _YELLOW,
}


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A table column. `wide` ones show with `-o wide` only."""

    header: str
    cell: Callable[[T], str]
    wide: bool = False
    right: bool = False  # numbers


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _colourful(stream: TextIO) -> bool:
    return (
        is_terminal(stream)
        and not os.environ.get("NO_COLOR")
        and (os.environ.get("TERM", "") != "dumb")
    )


class Output:
    """Where and how a command's answer goes. `format` is what `-o` said."""

    def __init__(self, format: str = "table", *, headers: bool = True) -> None:
        self.format, equals, self.expression = format.partition("=")
        self.headers = headers
        known = self.format in ("table", "wide", "json", "yaml", "name") and not equals
        if not known and not (self.format == "jsonpath" and self.expression):
            raise PlumError(
                f"unknown output format {format!r}",
                "use -o table, wide, json, yaml, name or jsonpath=EXPR",
                ExitCode.USAGE,
            )

    @property
    def is_table(self) -> bool:
        return self.format in ("table", "wide")

    def rows(
        self,
        items: Sequence[T],
        columns: Sequence[Column[T]],
        *,
        whole: object,
        name: Callable[[T], str],
        empty: str = "",
    ) -> None:
        """Emit rows.

        `whole` is what json, yaml and jsonpath see; `name` what `-o name` prints
        per row; `empty` is said on stderr when a table would have no row.
        """
        if self.format == "name":
            for item in items:
                line(name(item))
        elif not self.is_table:
            self.value(whole)
        elif not items:
            if empty:
                note(empty)
        else:
            shown = [column for column in columns if self.format == "wide" or not column.wide]
            self._table(items, shown)

    def value(self, whole: object) -> None:
        """Emit one JSON value as json, yaml (also for table) or through the jsonpath."""
        if self.format == "json":
            _write(_json(whole))
        elif self.format == "jsonpath":
            from plumctl import jsonpath

            text = jsonpath.render(self.expression, whole)
            if text:
                _write(text)
        else:
            write_yaml([whole])

    def _table(self, items: Sequence[T], columns: Sequence[Column[T]]) -> None:
        cells = [[inert(column.cell(item)) or "-" for column in columns] for item in items]
        headers = [column.header for column in columns]
        widths = [
            max(width_columns(row[index]) for row in ([headers] if self.headers else []) + cells)
            for index in range(len(columns))
        ]
        colour = _colourful(sys.stdout)
        if self.headers:
            text = _aligned(headers, widths, columns, colour=False)
            _write(f"{_BOLD}{text}{_PLAIN}" if colour else text)
        for row in cells:
            _write(_aligned(row, widths, columns, colour=colour))


def _aligned(
    row: Sequence[str], widths: Sequence[int], columns: Sequence[Column[T]], *, colour: bool
) -> str:
    parts = []
    for text, width, column in zip(row, widths, columns, strict=True):
        space = " " * (width - width_columns(text))
        paint = _WORD_COLOURS.get(text) if colour else None
        shown = f"{paint}{text}{_PLAIN}" if paint else text
        parts.append(space + shown if column.right else shown + space)
    return "   ".join(parts).rstrip()


def _json(value: object) -> str:
    # json escapes all controls but DEL.
    return json.dumps(value, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")


def line(text: str) -> None:
    """One line of data, made inert."""
    _write(inert(text))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def details(pairs: Sequence[tuple[str, str]], indent: int = 0) -> None:
    """`Name:  value` lines, values aligned, as `describe` shows them."""
    width = max((len(name) for name, _ in pairs), default=0) + 1
    for name, value in pairs:
        line(f"{'':{indent}}{name + ':':<{width}}  {value or '-'}")


def write_yaml(documents: Sequence[object], indent: int = 0) -> None:
    """YAML 1.2 documents, control characters escaped."""
    from daemon.model.yaml_text import to_yaml

    text = "---\n".join(to_yaml(document) for document in documents).replace("\x7f", "\\x7f")
    for row in text.splitlines():
        line(" " * indent + row)


def note(text: str) -> None:
    """A message for the person, on stderr."""
    sys.stdout.flush()
    sys.stderr.write(inert(text) + "\n")


def suggest(command: str) -> None:
    """The likely next command, for a person at a terminal only."""
    if is_terminal(sys.stderr) and is_terminal(sys.stdout):
        note(f"Next: {command}")


def failure(error: PlumError) -> None:
    """An error, its problems with their places, and the next step, on stderr."""
    sys.stdout.flush()
    colour = _colourful(sys.stderr)
    label = f"{_RED}Error:{_PLAIN}" if colour else "Error:"
    write = sys.stderr.write
    write(f"{label} {inert(error.message)}\n")
    said = [_problem(problem) for problem in error.problems]
    for text in said if said != [inert(error.message)] else ():
        write(f"  {text}\n")
    if error.hint:
        write(f"Hint: {inert(error.hint)}\n")


def _problem(problem: Problem) -> str:
    where = f"{inert(problem.path)}: " if problem.path else ""
    return where + inert(problem.message)


def number(value: object) -> str:
    """A counter as a cell; absent is empty."""
    return str(value) if isinstance(value, int) else ""


def labels_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
