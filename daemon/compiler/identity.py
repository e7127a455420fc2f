"""Ids that are hashes of what they name: new content is a new id."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def content_id(kind: str, *parts: bytes) -> int:
    """First 8 bytes, little endian, of BLAKE2b over the parts; never 0.

    `kind` keeps ids of different things apart. Parts are hashed with their
    lengths, so that no two lists of parts look alike.
    """
    state = blake2b(digest_size=8, person=kind.encode())
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return int.from_bytes(state.digest(), "little") or 1


def text_id(kind: str, texts: Iterable[str]) -> int:
    return content_id(kind, *(text.encode() for text in texts))
