"""Which write made which revision of which key, from everything anybody was told."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.faults.history import Action, Cell, History, Op, Outcome, Watched


@dataclass(frozen=True, slots=True)
class Version:
    """`op` None: nobody's write, that is a lease that ran out."""

    revision: int
    token: str | None
    op: Op | None = None


ABSENT = Version(0, None)


class Versions:
    """The history of every key, and what is not known of it."""

    def __init__(self, history: History) -> None:
        self.contradictions: list[str] = []
        self._of: dict[str, list[Version]] = defaultdict(list)
        self._writer: dict[tuple[str, str], Op] = {}
        self._revision_of: dict[tuple[str, str], int] = {}
        self._changes: list[tuple[int, str, Version]] = []  # of all keys, by revision
        self._doubtful: dict[str, list[Op]] = defaultdict(list)  # outcome unknown, never seen
        self._leased: set[str] = set()
        commits = [op for op in history.ops if op.action is Action.COMMIT]
        for op in commits:
            for cell in op.writes:
                if cell.token is not None:
                    self._writer[cell.key, cell.token] = op
                if op.leased:
                    self._leased.add(cell.key)
        self._collect(history, commits)
        for op in commits:
            if op.outcome is Outcome.UNKNOWN and not self._was_seen(op):
                for cell in op.writes:
                    self._doubtful[cell.key].append(op)
        self._complete = [(watch.prefix, _known_until(watch, commits)) for watch in history.watches]

    @property
    def keys(self) -> Iterable[str]:
        return self._of.keys()

    def of(self, key: str) -> list[Version]:
        """By revision."""
        return self._of.get(key, [])

    def at(self, key: str, revision: int) -> Version:
        """As the key was once the store had this revision."""
        known = self.of(key)
        place = bisect.bisect_right(known, revision, key=lambda version: version.revision)
        return known[place - 1] if place else ABSENT

    def after(self, key: str, revision: int) -> float:
        """The revision the key changed next, inf if it did not."""
        known = self.of(key)
        place = bisect.bisect_right(known, revision, key=lambda version: version.revision)
        return known[place].revision if place < len(known) else math.inf

    def between(self, prefix: str, after: float, through: int) -> Iterator[tuple[str, Version]]:
        """What changed under a prefix, after one revision (exclusive) up to another."""
        place = bisect.bisect_right(self._changes, after, key=lambda change: change[0])
        for index in range(place, len(self._changes)):
            revision, key, version = self._changes[index]
            if revision > through:
                return
            if key.startswith(prefix):
                yield key, version

    def spans(self, key: str, cell: Cell) -> Iterator[tuple[int, float]]:
        """Revisions, from (inclusive) and to (exclusive), between which the key was so."""
        if cell.token is not None:
            yield cell.mod_revision, self.after(key, cell.mod_revision)
            return
        for version in (ABSENT, *self.of(key)):
            if version.token is None:
                yield version.revision, self.after(key, version.revision)

    def may_differ(self, key: str, before_s: float, *, absent: bool = False) -> bool:
        """Whether something may have changed the key unseen before that moment; `absent`:
        may have deleted it."""
        if any(key.startswith(prefix) and before_s <= until for prefix, until in self._complete):
            return False
        if absent and key in self._leased:
            return True
        return any(
            op.began_s < before_s
            and (not absent or any(c.key == key and c.token is None for c in op.writes))
            for op in self._doubtful[key]
        )

    def _collect(self, history: History, commits: list[Op]) -> None:
        seen: dict[tuple[str, int], str | None] = {}

        def add(key: str, revision: int, token: str | None, where: str) -> None:
            known = seen.setdefault((key, revision), token)
            if known != token:
                self.contradictions.append(
                    f"revision {revision} of {key} is {token or 'a deletion'} by {where}, but "
                    f"was {known or 'a deletion'} before: one revision cannot be both"
                )

        for op in commits:
            if op.done and op.revision:
                for cell in op.writes:
                    add(cell.key, op.revision, cell.token, str(op))
        for watch in history.watches:
            for heard in watch.heard:
                for cell in heard.cells:
                    revision = cell.mod_revision if heard.listed else heard.revision
                    add(cell.key, revision, cell.token, f"{watch.process}'s watch")
        for op in history.ops:
            for cell in op.found:
                if cell.token is not None:
                    add(cell.key, cell.mod_revision, cell.token, str(op))
        for (key, revision), token in sorted(seen.items()):
            self._place(key, revision, token)
        self._changes.sort(key=lambda change: change[0])

    def _place(self, key: str, revision: int, token: str | None) -> None:
        writer = self._writer.get((key, token)) if token is not None else None
        if token is not None and writer is None:
            self.contradictions.append(
                f"{key} is {token} at revision {revision}, which nobody ever wrote"
            )
        if writer is not None and writer.outcome is Outcome.REFUSED:
            self.contradictions.append(
                f"{writer} was answered as not written, but is there at revision {revision}"
            )
        if token is not None:
            first = self._revision_of.setdefault((key, token), revision)
            if first != revision:
                self.contradictions.append(
                    f"{writer} was written twice, at revisions {first} and {revision}"
                )
        version = Version(revision, token, writer)
        self._of[key].append(version)
        self._changes.append((revision, key, version))

    def _was_seen(self, op: Op) -> bool:
        """Whether an unknown outcome is known after all: one of its writes turned up."""
        return any(
            (cell.key, cell.token) in self._revision_of
            for cell in op.writes
            if cell.token is not None
        )


def _known_until(watch: Watched, commits: list[Op]) -> float:
    """Until when this watch leaves nothing unseen: what came before a commit it has passed.

    One that listed again in between has not heard of every deletion.
    """
    if not watch.heard or not watch.heard[0].listed or any(h.listed for h in watch.heard[1:]):
        return -math.inf
    last = watch.heard[-1].revision
    passed = (op.began_s for op in commits if op.done and op.writes and op.revision <= last)
    return max(passed, default=-math.inf)
