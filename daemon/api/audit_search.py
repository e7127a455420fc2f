"""Searching the audit log, newest line first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from daemon.api.answers import AuditLine
from daemon.api.audit import Audit


@dataclass(frozen=True, slots=True)
class Wanted:
    """Empty or None: any."""

    since: str = ""  # as audit.timestamp writes it
    user: str = ""
    tenant: str = ""
    object: str = ""  # a path, or one above it; with or without its kind
    outcome: str = ""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Found:
    lines: tuple[AuditLine, ...]  # newest first
    more: bool  # there are older ones that fit
    unreadable: int  # lines that are no JSON: torn by a full disk, or written by somebody else


def search(audit: Audit, node: str, wanted: Wanted) -> Found:
    """Raises OSError."""
    lines: list[AuditLine] = []
    unreadable = 0
    streams = audit.open_all()
    try:
        for raw in _newest_first(streams):
            if not _may_fit(raw, wanted):
                continue
            try:
                document = json.loads(raw)
                line = AuditLine.model_validate({**document, "node": node})
            except (ValueError, TypeError):
                unreadable += 1
                continue
            if wanted.since and line.time < wanted.since:
                break  # the rest is older
            if not _fits(line, wanted):
                continue
            if len(lines) == wanted.limit:
                return Found(tuple(lines), True, unreadable)
            lines.append(line)
    finally:
        for stream in streams:
            stream.close()
    return Found(tuple(lines), False, unreadable)


def tenants_of(line: AuditLine) -> set[str]:
    """Tenants a line is about: of the one who asked, and of the objects."""
    found = {line.tenant} if line.tenant else set()
    for text in line.objects:
        kind, _, path = text.partition(" ")
        if kind in ("tenant", "domain", "endpoint"):
            found.add(path.partition("/")[0])
    return found


def shown_to(line: AuditLine, tenant: str) -> AuditLine | None:
    """What an operator of the tenant is shown of a line; None: nothing.

    Where an administrator came from is left out. So are objects of others, and then the
    words about all of them. What another tenant's user tried on this one is the
    administrator's to know.
    """
    if line.tenant not in (None, tenant) or tenant not in tenants_of(line):
        return None
    if line.tenant == tenant:
        return line
    line = line.model_copy(update={"source": "", "on_behalf": "", "token": ""})
    kinds = {text.partition(" ")[0] for text in line.objects}
    if tenants_of(line) == {tenant} and kinds.isdisjoint(("node", "adminpolicy")):
        return line
    own = tuple(text for text in line.objects if _is_of(text, tenant))
    return line.model_copy(update={"objects": own, "summary": ""})


def _newest_first(streams: Sequence[BinaryIO]) -> Iterator[bytes]:
    for stream in reversed(streams):
        yield from reversed(stream.read().splitlines())


def _may_fit(raw: bytes, wanted: Wanted) -> bool:
    """Cheap, before reading a line as JSON: what is looked for must be in it somewhere."""
    needles = (wanted.user, wanted.tenant, wanted.object.rpartition(" ")[2], wanted.outcome)
    return all(json.dumps(needle)[1:-1].encode() in raw for needle in needles if needle)


def _fits(line: AuditLine, wanted: Wanted) -> bool:
    if wanted.user and wanted.user not in (line.user, line.on_behalf.rpartition(" ")[2]):
        return False
    if wanted.tenant and wanted.tenant not in tenants_of(line):
        return False
    if wanted.object and not any(_names(text, wanted.object) for text in line.objects):
        return False
    return not wanted.outcome or line.outcome == wanted.outcome


def _names(text: str, wanted: str) -> bool:
    kind, _, path = wanted.rpartition(" ")
    own_kind, _, own_path = text.partition(" ")
    return kind in ("", own_kind) and (own_path == path or own_path.startswith(f"{path}/"))


def _is_of(text: str, tenant: str) -> bool:
    kind, _, path = text.partition(" ")
    return kind in ("tenant", "domain", "endpoint") and path.partition("/")[0] == tenant


def merged(parts: Sequence[Sequence[AuditLine]], limit: int) -> tuple[list[AuditLine], bool]:
    """Lines of several nodes as one list, newest first, and whether some are left out."""
    lines: list[Any] = [line for part in parts for line in part]
    lines.sort(key=lambda line: line.time, reverse=True)
    return lines[:limit], len(lines) > limit
