"""What the daemon answers about users, tokens and its audit log, typed."""

from __future__ import annotations

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


def users(document: Any) -> tuple[User, ...]:
    return tuple(User.read(item) for item in document["items"])


def tokens(document: Any) -> tuple[Token, ...]:
    return tuple(Token.read(item) for item in document["items"])


def _text(document: Document, key: str) -> str:
    return str(document.get(key) or "")
