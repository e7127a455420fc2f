"""The backup of a zone: a file of JSON lines. Pure: bytes in, bytes out.

{"format": "plum-zone-backup", "version": 1, "zone": ..., "revision": ..., "keys": ...}
{"key": "/plum/tenant/acme", "value": "..."}       one line a key, in order
{"sha256": "..."}                                  of every byte before this line
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = "plum-zone-backup"
#: Raised when an older Plum could not restore what a newer one wrote.
VERSION = 1


class BackupError(Exception):
    """The file cannot be used; the text says why and `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Header(BaseModel):
    """What the file says of itself. A later Plum of the same version may say more."""

    model_config = ConfigDict(frozen=True)

    format: str = FORMAT
    version: int = VERSION
    zone: str = ""  # id of the zone; empty: it has none, as on one machine
    revision: int  # of the store, at which all keys were read
    created: str  # RFC 3339
    plum: str  # version of the plumd that wrote it
    keys: int


def write(header: Header, items: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The lines of the file."""
    digest = hashlib.sha256()
    for document in (header.model_dump(), *map(_document, items)):
        line = json.dumps(document).encode() + b"\n"
        digest.update(line)
        yield line
    yield json.dumps({"sha256": digest.hexdigest()}).encode() + b"\n"


def read_header(data: bytes) -> Header:
    """Raises BackupError also for a version that this Plum does not know."""
    document = _parse(data.partition(b"\n")[0])
    if document.get("format") != FORMAT:
        raise BackupError(
            "this is no backup of a zone", "give a file that `plumctl zone backup` wrote"
        )
    version = document.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise BackupError(
            f"the backup has version {version!r}, this Plum knows up to {VERSION}",
            f"restore it with the Plum that wrote it ({document.get('plum')}) or a later one",
        )
    try:
        return Header.model_validate(document)
    except ValidationError as error:
        raise _damaged("its first line is malformed") from error


def read(data: bytes) -> tuple[Header, dict[str, bytes]]:
    """Header and values by key. Raises BackupError unless every byte is as it was written."""
    header = read_header(data)
    body, _, last = data.removesuffix(b"\n").rpartition(b"\n")
    body += b"\n"
    try:
        said = _parse(last).get("sha256")
    except BackupError as error:
        raise _damaged("its end is missing") from error
    if not data.endswith(b"\n") or said is None:
        raise _damaged("its end is missing")
    if said != hashlib.sha256(body).hexdigest():
        raise _damaged("its checksum does not fit")
    items: dict[str, bytes] = {}
    for line in body.splitlines()[1:]:
        key, value = _item(_parse(line))
        items[key] = value
    if len(items) != header.keys:
        raise _damaged(f"it has {len(items)} keys of {header.keys}")
    return header, items


def _document(item: tuple[str, bytes]) -> Mapping[str, str]:
    key, value = item
    try:
        return {"key": key, "value": value.decode()}
    except UnicodeDecodeError:
        return {"key": key, "base64": base64.b64encode(value).decode()}


def _item(document: Mapping[str, Any]) -> tuple[str, bytes]:
    try:
        if "value" in document:
            return str(document["key"]), str(document["value"]).encode()
        return str(document["key"]), base64.b64decode(document["base64"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise _damaged("a line is malformed") from error


def _parse(line: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise _damaged("a line is no JSON") from error
    if not isinstance(document, dict):
        raise _damaged("a line is malformed")
    return document


def _damaged(why: str) -> BackupError:
    return BackupError(f"the backup is damaged: {why}", "nothing was changed; use another backup")
