"""Plan a change: pure, from the zone as it is to the objects to write."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon.model.manifest import Manifest
from daemon.model.object import Kind, Object, Ref, allocated_document, spec_document
from daemon.model.problem import Problem
from daemon.model.snapshot import Snapshot
from daemon.model.yaml_text import to_yaml
from daemon.zone.allocate import allocate
from daemon.zone.check_endpoint import check_macs
from daemon.zone.counters import Counters, Numbers
from daemon.zone.edit import Edit, make_edit
from daemon.zone.errors import NOT_FOUND, Problems, ZoneError
from daemon.zone.read import find
from daemon.zone.validate import validate


class Action(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one object."""

    ref: Ref
    before: Object | None
    after: Object | None

    @property
    def action(self) -> Action:
        if self.before is None:
            return Action.CREATED
        if self.after is None:
            return Action.DELETED
        return Action.UNCHANGED if self.before == self.after else Action.CHANGED

    def diff(self) -> str:
        """Unified diff of the specs as YAML; of what is allocated when only that changes."""
        if self.action is Action.UNCHANGED:
            return ""
        before, after = _yaml(self.before, spec_document), _yaml(self.after, spec_document)
        if before == after:
            before = _yaml(self.before, allocated_document)
            after = _yaml(self.after, allocated_document)
        lines = difflib.unified_diff(before, after, self.ref.text, self.ref.text)
        return "".join(lines)

    def document(self) -> dict[str, str]:
        return {
            "action": str(self.action),
            "kind": str(self.ref.kind),
            "path": self.ref.path,
            "diff": self.diff(),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    counters: Counters  # after the change; `seq` is the new revision's

    @property
    def effective(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.action is not Action.UNCHANGED)


def make_plan(
    current: Snapshot,
    counters: Counters,
    manifests: Sequence[Manifest] = (),
    removed: Iterable[Ref] = (),
    *,
    prefer: Mapping[Ref, Object] | None = None,
    problems: Sequence[Problem] = (),
    broken: frozenset[Ref] = frozenset(),
) -> Plan:
    """Check and allocate. Raises ZoneError with every problem, those given included."""
    removed = tuple(removed)
    if missing := [ref for ref in removed if find(current, ref) is None]:
        raise ZoneError(
            f"there is no {', no '.join(ref.text for ref in missing)}",
            "nothing was deleted; see what there is with plumctl get",
            [Problem(ref.text, "does not exist") for ref in missing],
            NOT_FOUND,
        )
    edit = make_edit(current, manifests, removed, broken, prefer)
    found = Problems(problems)
    validate(edit, found)
    found.raise_any()
    numbers = Numbers(counters)
    result = allocate(edit, numbers, found)
    check_macs(edit, result, found)
    found.raise_any()
    numbers.seq += 1
    return Plan(_changes(edit, result), numbers.counters())


def _changes(edit: Edit, result: Snapshot) -> tuple[Change, ...]:
    """Those written in their order, then those that follow from them, then removals."""
    refs = dict.fromkeys(edit.written)
    for domain in edit.touched_domains:  # others' endpoints are left alone
        for path in edit.endpoints_by_domain[domain]:
            # Identity holds for whatever allocation left alone.
            if edit.current.endpoints.get(path) is not result.endpoints[path]:
                refs[Ref.parse(Kind.ENDPOINT, path)] = None
    for path, after in result.domains.items():  # their leases of public ports may move
        if edit.current.domains.get(path, after) is not after:
            refs[Ref.parse(Kind.DOMAIN, path)] = None
    changes = [Change(ref, find(edit.current, ref), find(result, ref)) for ref in refs]
    return (*changes, *(Change(ref, find(edit.current, ref), None) for ref in edit.removed))


def _yaml(item: Object | None, document: Callable[[Object], dict[str, Any]]) -> list[str]:
    data = document(item) if item is not None else None
    return to_yaml(data).splitlines(keepends=True) if data else []
