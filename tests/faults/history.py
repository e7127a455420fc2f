"""What clients did to a store and what they were told: one file of JSON lines a client.

A line is written before an operation begins and another when it ended, so a client
that is killed in between leaves an operation whose outcome nobody knows. Times are
CLOCK_MONOTONIC seconds, which all processes of a machine share. Every write carries a
token that no other write carries, so what is read says which write it came from.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"  # for certain not written
    UNKNOWN = "unknown"  # written or not, or perhaps later


class Action(StrEnum):
    GET = "get"  # one key
    LIST = "list"  # all keys under a prefix, at one revision
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Cell:
    """One key as it was seen, or as it is to be. `token` None: absent, or deleted."""

    key: str
    token: str | None
    mod_revision: int = 0  # of what was seen; 0 when absent


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a client."""

    process: str
    action: Action
    began_s: float
    ended_s: float = math.inf  # never, if nobody heard how it ended
    outcome: Outcome = Outcome.UNKNOWN
    revision: int = 0  # commit and list: of the store; 0: not told
    compares: tuple[tuple[str, int], ...] = ()  # commit: key and mod_revision
    writes: tuple[Cell, ...] = ()  # commit
    leased: bool = False  # what it wrote goes away with a lease
    tenure: tuple[str, int] | None = None  # it trusted to hold this key since this revision
    scope: str = ""  # get: the key, list: the prefix
    found: tuple[Cell, ...] = ()  # get and list

    @property
    def done(self) -> bool:
        return self.outcome is Outcome.OK

    def __str__(self) -> str:
        what = self.scope or ", ".join(
            f"{cell.key}={cell.token or 'deleted'}" for cell in self.writes
        )
        return f"{self.process}'s {self.action} of {what} at {self.began_s:.3f} s"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a watcher was told: a batch of changes, or (`listed`) the whole state anew."""

    at_s: float
    revision: int
    cells: tuple[Cell, ...]
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Watched:
    process: str
    prefix: str
    heard: tuple[Heard, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The faults were over at `healed_s`; from then on watchers have a bounded time."""

    key: str  # written after it: who watches it is meant
    healed_s: float
    revision: int  # of that write
    at_s: float  # when it was acknowledged


@dataclass
class History:
    ops: list[Op] = field(default_factory=list)
    watches: list[Watched] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)


class Recorder:
    """Appends to one client's file. Each line is whole or missing, also after kill -9."""

    def __init__(self, path: Path, process: str) -> None:
        self.process = process
        self._file = path.open("ab", buffering=0)
        self._number = 0

    def begin(self, action: Action, **what: Any) -> int:
        self._number += 1
        self._line({"begin": self._number, "action": action, "at": time.monotonic(), **what})
        return self._number

    def end(self, number: int, outcome: Outcome, **what: Any) -> None:
        self._line({"end": number, "outcome": outcome, "at": time.monotonic(), **what})

    def heard(self, prefix: str, revision: int, cells: Iterable[Cell], listed: bool) -> None:
        self._line(
            {
                "heard": prefix,
                "at": time.monotonic(),
                "revision": revision,
                "cells": plain(cells),
                "listed": listed,
            }
        )

    def settled(self, key: str, healed_s: float, revision: int) -> None:
        at_s = time.monotonic()
        self._line({"healed": healed_s, "key": key, "revision": revision, "at": at_s})

    def close(self) -> None:
        self._file.close()

    def _line(self, document: Mapping[str, Any]) -> None:
        line = json.dumps({"process": self.process, **document}) + "\n"
        self._file.write(line.encode())


def plain(cells: Iterable[Cell]) -> list[list[Any]]:
    return [[cell.key, cell.token, cell.mod_revision] for cell in cells]


def read(paths: Iterable[Path]) -> History:
    """The history of all clients. A half-written last line is that of a killed client."""
    history = History()
    for path in sorted(paths):
        _read_one(path, history)
    history.ops.sort(key=lambda op: op.began_s)
    return history


def _read_one(path: Path, history: History) -> None:
    begun: dict[int, dict[str, Any]] = {}
    heard: dict[tuple[str, str], list[Heard]] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        document = json.loads(line)
        if "begin" in document:
            begun[document["begin"]] = document
        elif "end" in document:
            history.ops.append(_op(begun.pop(document["end"]), document))
        elif "heard" in document:
            heard.setdefault((document["process"], document["heard"]), []).append(_heard(document))
        else:
            history.settled.append(
                Settled(document["key"], document["healed"], document["revision"], document["at"])
            )
    history.ops += [_op(document, {}) for document in begun.values()]
    history.watches += [
        Watched(process, prefix, tuple(all_of)) for (process, prefix), all_of in heard.items()
    ]


def _op(begun: Mapping[str, Any], ended: Mapping[str, Any]) -> Op:
    outcome = Outcome(ended.get("outcome", Outcome.UNKNOWN))
    tenure = begun.get("tenure")
    return Op(
        process=begun["process"],
        action=Action(begun["action"]),
        began_s=begun["at"],
        # One that failed without saying whether it was written may take effect any time later.
        ended_s=math.inf if outcome is Outcome.UNKNOWN else ended["at"],
        outcome=outcome,
        revision=ended.get("revision", 0),
        compares=tuple((key, revision) for key, revision in begun.get("compares", ())),
        writes=_cells(begun.get("writes", ())),
        leased=begun.get("leased", False),
        tenure=(tenure[0], tenure[1]) if tenure else None,
        scope=begun.get("scope", ""),
        found=_cells(ended.get("found", ())),
    )


def _heard(document: Mapping[str, Any]) -> Heard:
    cells = _cells(document["cells"])
    return Heard(document["at"], document["revision"], cells, document["listed"])


def _cells(rows: Iterable[Iterable[Any]]) -> tuple[Cell, ...]:
    return tuple(Cell(*row) for row in rows)
