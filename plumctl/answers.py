"""What the daemon answers, typed. Each keeps the raw `document` for -o json and yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]

#: Kinds whose objects belong to no tenant.
_OF_NOBODY = ("node", "external", "adminpolicy")


def path_of(kind: str, document: Document) -> str:
    """`acme`, `acme/shop`, `acme/shop/web-1`, `n1`."""
    names = [document.get("tenant"), None, document.get("name")]
    if kind == "endpoint":
        names[1] = document.get("domain") or (document.get("spec") or {}).get("domain")
    return "/".join(str(name) for name in names if name)


@dataclass(frozen=True, slots=True)
class View:
    """One object: what the user said, what was allocated, how it fares."""

    kind: str
    name: str
    path: str
    spec: Document
    allocated: Document
    revision: int
    state: str  # programmed | pending | error
    reason: str
    used: Document  # of a tenant: what counts against its quota
    document: Document = field(repr=False)

    @property
    def tenant(self) -> str:
        return self.path.split("/")[0] if self.kind not in _OF_NOBODY else ""

    @property
    def domain(self) -> str:
        parts = self.path.split("/")
        return parts[1] if len(parts) > 1 else ""

    @classmethod
    def read(cls, document: Document) -> View:
        kind = str(document["kind"])
        status = document.get("status") or {}
        return cls(
            kind=kind,
            name=str(document["name"]),
            path=path_of(kind, document),
            spec=document.get("spec") or {},
            allocated=document.get("allocated") or {},
            revision=int(document.get("revision") or 0),
            state=str(status.get("state") or ""),
            reason=str(status.get("reason") or ""),
            used=document.get("used") or {},
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[View, ...]
    revision: int
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """One object that an apply, delete or rollback changed or would change."""

    action: str  # created | changed | unchanged | deleted
    kind: str
    path: str
    diff: tuple[str, ...]  # lines of a unified diff of the specs as YAML

    @classmethod
    def read(cls, document: Document) -> Change:
        return cls(
            action=str(document["action"]),
            kind=str(document["kind"]),
            path=str(document["path"]),
            diff=tuple(str(document.get("diff") or "").splitlines()),
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """Answer to apply, delete and rollback. `history` is 0 when nothing was kept."""

    history: int
    revision: int
    changes: tuple[Change, ...]
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Applied:
        return cls(
            history=int(document.get("history") or 0),
            revision=int(document.get("revision") or 0),
            changes=tuple(Change.read(change) for change in document.get("changes") or ()),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Exceptional:
    """An object that a node has not programmed, and why."""

    node: str
    kind: str
    path: str
    state: str
    reason: str

    @classmethod
    def read(cls, document: Document, state: str = "") -> Exceptional:
        return cls(
            node=str(document.get("node") or ""),
            kind=str(document.get("kind") or ""),
            path=str(document.get("path") or ""),
            state=str(document.get("state") or state),
            reason=str(document.get("reason") or ""),
        )


@dataclass(frozen=True, slots=True)
class Waited:
    """Whether every node concerned has programmed the revision, else what is missing."""

    done: bool
    missing: tuple[Exceptional, ...]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of the history."""

    seq: int
    revision: int
    time: str
    who: str
    verb: str  # apply | delete | rollback | revert
    confirm_by: str  # goes back then, unless confirmed; empty: stays
    comment: str
    changes: tuple[Change, ...]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters by node; `unreachable` names the nodes that did not answer, with the error."""

    endpoints: tuple[Document, ...]  # each with "node"
    rules: tuple[Document, ...]
    drops: tuple[Document, ...]
    unreachable: Mapping[str, str]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How this node fares."""

    name: str
    version: str
    revision: int
    ready: bool
    reason: str  # why it is not ready
    exceptions: tuple[Exceptional, ...]
    repairs: tuple[Document, ...]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    keys: int  # in the backup
    written: int
    deleted: int
    revision: int
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Restored:
        return cls(
            keys=int(document["keys"]),
            written=int(document["written"]),
            deleted=int(document["deleted"]),
            revision=int(document["revision"]),
            document=document,
        )
