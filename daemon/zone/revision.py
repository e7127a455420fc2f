"""Revisions: the record of every applied change."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from daemon.model.base import Model
from daemon.model.object import OBJECT_TYPES, Kind, Object, Ref
from daemon.zone.plan import Change


class Verb(StrEnum):
    """What made a revision."""

    APPLY = "apply"
    DELETE = "delete"
    ROLLBACK = "rollback"
    REVERT = "revert"  # a change that nobody confirmed
    CORDON = "cordon"
    UNCORDON = "uncordon"
    REMOVE = "remove"  # a node


class Recorded(Model):
    """One object before and after, as the store keeps it (JSON)."""

    kind: Kind
    path: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    @property
    def ref(self) -> Ref:
        return Ref.parse(self.kind, self.path)

    def change(self) -> Change:
        """With objects in place of JSON: gives action and diff."""
        return Change(self.ref, self.object_before(), self.object_after())

    def object_before(self) -> Object | None:
        return _load(self.kind, self.before)

    def object_after(self) -> Object | None:
        return _load(self.kind, self.after)


class Revision(Model):
    seq: int
    at: float  # Unix time, seconds
    actor: str
    verb: Verb
    comment: str = ""
    of: int | None = None  # the revision that was rolled back to or reverted
    changes: tuple[Recorded, ...] = ()

    def summary(self) -> dict[str, Any]:
        """For lists: without the objects, with what happened to each."""
        changes = [
            {"action": _action(c), "kind": str(c.kind), "path": c.path} for c in self.changes
        ]
        return {**self.model_dump(mode="json", exclude={"changes"}), "changes": changes}

    def document(self) -> dict[str, Any]:
        """The same with the diff of every object."""
        changes = [recorded.change().document() for recorded in self.changes]
        return {**self.summary(), "changes": changes}


class Pending(Model):
    """A revision that reverts at its deadline unless confirmed."""

    seq: int
    deadline: float  # Unix time, seconds
    actor: str
    #: Of the operator who applied it: then the revert leaves everybody else alone too.
    tenant: str | None = None


def record(changes: Iterable[Change]) -> tuple[Recorded, ...]:
    return tuple(
        Recorded(
            kind=change.ref.kind,
            path=change.ref.path,
            before=_dump(change.before),
            after=_dump(change.after),
        )
        for change in changes
    )


def _dump(item: Object | None) -> dict[str, Any] | None:
    return item.model_dump(mode="json", exclude_unset=True) if item else None


def _load(kind: Kind, data: dict[str, Any] | None) -> Object | None:
    return OBJECT_TYPES[kind].model_validate(data) if data is not None else None


def _action(recorded: Recorded) -> str:
    if recorded.before is None:
        return "created"
    return "deleted" if recorded.after is None else "changed"
