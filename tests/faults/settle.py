"""After each group of faults: has everybody caught up within the time they have?"""

from __future__ import annotations

import json
import time
from pathlib import Path

from plumctl.errors import PlumError
from tests.faults import topology
from tests.faults.api_client import key_of
from tests.faults.arena import Arena, ArenaError
from tests.faults.checker import CONVERGE_S
from tests.faults.history import Action, Cell, Outcome, Recorder, plain
from tests.faults.store_clients import MARKER

WRITE_S = 20.0  # to get one write through once everything is mended


class Settler:
    """Writes a mark that every watcher must come across, and waits until they have."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._record = Recorder(arena.folder / "history-settle.jsonl", "settle")
        self._number = 0
        self._tails = [
            _Tail(arena.folder / f"history-{worker.name}.{worker.leg}.jsonl")
            for worker in arena.workers
            if worker.role == "watch"
        ]
        self.slowest_s = 0.0

    def settle(self, healed_s: float) -> list[str]:
        """What is wrong, in words: a plumd that does not catch up. Watchers' own delays are
        in their histories; the checker judges them."""
        self._number += 1
        token = f"settle-{self._number}"
        marks = {MARKER: self._write(token)}
        problem = self._apply(token, healed_s, marks)
        for key, revision in marks.items():
            self._record.settled(key, healed_s, revision)
        deadline = time.monotonic() + CONVERGE_S + 1
        while time.monotonic() < deadline and not self._reached(marks):
            time.sleep(0.02)
        if not self._reached(marks):
            self._arena.ask_where("watch")
        self.slowest_s = max(self.slowest_s, time.monotonic() - healed_s)
        return problem

    def _write(self, token: str) -> int:
        """Straight into the store. Its revision."""
        deadline = time.monotonic() + WRITE_S
        while time.monotonic() < deadline:
            if revision := self._arena.order(f"mark {token}", WRITE_S):
                return revision
            token += "x"
        raise ArenaError(f"the store takes no write {WRITE_S:g} s after the last fault was over")

    def _apply(self, token: str, healed_s: float, marks: dict[str, int]) -> list[str]:
        """Through the API, then wait until every node has programmed it."""
        arena = self._arena
        documents = topology.mark(arena, token)
        cells = [Cell(key_of(one["kind"], _path(one)), token) for one in documents]
        deadline = time.monotonic() + WRITE_S
        while True:
            number = self._record.begin(Action.COMMIT, writes=plain(cells))
            client = arena.client(arena.nodes[self._number % len(arena.nodes)], 8)
            try:
                revision = client.apply(documents).revision
            except PlumError as error:
                self._record.end(number, Outcome.UNKNOWN, why=error.message)
                if time.monotonic() > deadline:
                    problems = "; ".join(problem.message for problem in error.problems)
                    return [
                        f"no change is accepted {WRITE_S:g} s after the heal: {error.message}"
                        f" ({problems})"
                    ]
                time.sleep(0.2)
                token += "x"
                documents = topology.mark(arena, token)
                cells = [Cell(cell.key, token) for cell in cells]
                continue
            break
        self._record.end(number, Outcome.OK, revision=revision)
        marks |= {cells[0].key: revision, cells[1].key: revision}
        due_s = max(healed_s, time.monotonic()) + CONVERGE_S
        while True:
            try:
                waited = client.wait(revision, max(0.1, due_s - time.monotonic()))
                break
            except PlumError as error:  # a connection of before the heal: asked again in time
                if time.monotonic() > due_s:
                    why = error.message
                    return [f"nobody says whether revision {revision} is programmed: {why}"]
                time.sleep(0.1)
        missing = [
            f"{one.node} has not {one.kind} {one.path}: {one.reason}" for one in waited.missing
        ]
        return [] if waited.done else [f"not programmed {CONVERGE_S:g} s after the heal: {missing}"]

    def _reached(self, marks: dict[str, int]) -> bool:
        return all(
            tail.revision(prefix) >= revision
            for tail in self._tails
            for key, revision in marks.items()
            for prefix in self._arena.watched()
            if key.startswith(prefix)
        )


class _Tail:
    """How far a watcher has come, from the file it writes."""

    def __init__(self, path: Path) -> None:
        path.touch()  # it may not have begun yet
        self._file = path.open("rb")
        self._rest = b""
        self._revisions: dict[str, int] = {}

    def revision(self, prefix: str) -> int:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            document = json.loads(line)
            self._revisions[document["heard"]] = document["revision"]
        return self._revisions.get(prefix, 0)


def _path(document: topology.Document) -> str:
    of = document["spec"].get("domain") if document["kind"] == "endpoint" else None
    return "/".join(part for part in (document["tenant"], of, document["name"]) if part)
