"""What the daemon answers about users, tokens and its audit log, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plumctl.answers import Document


@dataclass(frozen=True, slots=True)
class Whoami:
    kind: str  # local | node | user
    name: str
    role: str
    tenant: str
    source: str
    expires: str
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Whoami:
        return cls(
            kind=_text(document, "kind"),
            name=_text(document, "name"),
            role=_text(document, "role"),
            tenant=_text(document, "tenant"),
            source=_text(document, "source"),
            expires=_text(document, "expires"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: str
    tenant: str
    comment: str
    created: str
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> User:
        return cls(
            name=_text(document, "name"),
            role=_text(document, "role"),
            tenant=_text(document, "tenant"),
            comment=_text(document, "comment"),
            created=_text(document, "created"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Token:
    id: str
    user: str
    comment: str
    created: str
    expires: str
    valid: bool
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Token:
        return cls(
            id=_text(document, "id"),
            user=_text(document, "user"),
            comment=_text(document, "comment"),
            created=_text(document, "created"),
            expires=_text(document, "expires"),
            valid=bool(document["valid"]),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class NewToken:
    token: Token
    secret: str = field(repr=False)
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> NewToken:
        return cls(Token.read(document["token"]), str(document["secret"]), document)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One request, as a node wrote it down."""

    node: str
    time: str
    who: str  # `root`, `user ann`, `node n2`; empty: nobody could tell
    role: str
    on_behalf: str
    source: str
    token: str
    operation: str
    request: str  # `POST /v1/apply`
    outcome: str  # done | refused | failed
    objects: tuple[str, ...]
    summary: str

    @classmethod
    def read(cls, document: Document) -> AuditLine:
        kind, name = _text(document, "kind"), _text(document, "user")
        return cls(
            node=_text(document, "node"),
            time=_text(document, "time"),
            who=name if kind == "local" or not name else f"{kind} {name}",
            role=_text(document, "role"),
            on_behalf=_text(document, "on_behalf"),
            source=_text(document, "source"),
            token=_text(document, "token"),
            operation=_text(document, "operation"),
            request=f"{document['method']} {document['path']}",
            outcome=_text(document, "outcome"),
            objects=tuple(map(str, document.get("objects") or ())),
            summary=_text(document, "summary"),
        )


@dataclass(frozen=True, slots=True)
class AuditLines:
    """`more`: there are older ones. `errors`: nodes that did not answer, and why."""

    lines: tuple[AuditLine, ...]
    more: bool
    unreadable: int
    errors: Mapping[str, str]
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> AuditLines:
        errors = document.get("errors") or {}
        if document.get("error"):  # of one node
            errors = {document["node"]: document["error"]}
        return cls(
            lines=tuple(AuditLine.read(item) for item in document["items"]),
            more=bool(document["more"]),
            unreadable=int(document["unreadable"]),
            errors={str(node): str(error) for node, error in errors.items()},
            document=document,
        )


def users(document: Any) -> tuple[User, ...]:
    return tuple(User.read(item) for item in document["items"])


def tokens(document: Any) -> tuple[Token, ...]:
    return tuple(Token.read(item) for item in document["items"])


def _text(document: Document, key: str) -> str:
    return str(document.get(key) or "")
