"""Manifests: what a user writes, read strictly and with every problem named at once.

    kind: domain        # tenant, domain, endpoint, node or AdminPolicy; case does not matter
    name: shop
    tenant: acme        # domains and endpoints only
    spec: {...}         # DomainSpec and so on

No file I/O here: callers hand in text and the name of where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from daemon.model.base import Model
from daemon.model.object import (
    NAME,
    SPEC_TYPES,
    Kind,
    Object,
    Ref,
    Spec,
    ref_of,
    spec_document,
)
from daemon.model.problem import PATTERNS, Loc, Problem, explain, field_path, unknown_key
from daemon.model.yaml_text import Document, YamlSyntaxError, load_yaml

ENVELOPE = ("kind", "name", "tenant", "spec")
_NAME_WORDS = next(iter(PATTERNS.values()))


@dataclass(frozen=True, slots=True)
class Manifest:
    ref: Ref
    spec: Spec
    source: str = ""  # file it came from, for messages

    def document(self) -> dict[str, Any]:
        """The manifest as JSON-like data: what travels to the API."""
        return _document(self.ref, self.spec.model_dump(mode="json", exclude_unset=True))


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be read, what was wrong, and the objects whose spec is not to be relied on."""

    manifests: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()
    broken: frozenset[Ref] = frozenset()


def manifest_of(item: Object) -> Manifest:
    """The manifest that would make this object again (without what was allocated)."""
    return Manifest(ref_of(item), item.spec)


def object_document(item: Object) -> dict[str, Any]:
    """`manifest_of(item).document()`."""
    return _document(ref_of(item), spec_document(item))


def parse_manifests(text: str, source: str = "") -> Parsed:
    """Read a stream of YAML 1.2 or JSON documents; a top-level list counts as several."""
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        for document in load_yaml(text):
            if isinstance(document.data, list):
                documents += _split(document)
            elif document.data is not None:
                documents.append(document)
    except YamlSyntaxError as error:
        problems.append(Problem(source or "input", str(error)))
    parsed = _read(documents, source)
    return Parsed(parsed.manifests, (*problems, *parsed.problems), parsed.broken)


def read_manifests(documents: Iterable[object], source: str = "") -> Parsed:
    """The same for data that is already JSON-like, as it arrives at the API."""
    return _read([Document(data) for data in documents], source)


def join_parsed(parts: Iterable[Parsed]) -> Parsed:
    """Several files as one; an object given twice is a problem."""
    manifests: dict[Ref, Manifest] = {}
    problems: list[Problem] = []
    broken: set[Ref] = set()
    for part in parts:
        problems += part.problems
        broken |= part.broken
        for manifest in part.manifests:
            first = manifests.setdefault(manifest.ref, manifest)
            if first is not manifest:
                also = f" (first in {first.source})" if first.source else ""
                path = _path(manifest.source, manifest.ref.text)
                problems.append(Problem(path, f"is given twice{also}"))
    return Parsed(tuple(manifests.values()), tuple(problems), frozenset(broken))


def locate(problems: Iterable[Problem], manifests: Iterable[Manifest]) -> list[Problem]:
    """Put the file in front of problems that the API found in manifests sent to it."""
    sources = {m.ref.text: m.source for m in manifests if m.source}
    return [
        Problem(
            _path(sources.get(problem.path.split(":", 1)[0], ""), problem.path), problem.message
        )
        for problem in problems
    ]


def _path(source: str, rest: str) -> str:
    return f"{source}: {rest}" if source else rest


def _document(ref: Ref, spec: dict[str, Any]) -> dict[str, Any]:
    tenant = {"tenant": ref.tenant} if ref.tenant else {}
    return {"kind": str(ref.kind), "name": ref.name, **tenant, "spec": spec}


def _split(document: Document) -> list[Document]:
    assert isinstance(document.data, list)
    parts = [Document(data) for data in document.data]
    for loc, message in document.problems:
        if loc and isinstance(loc[0], int):
            parts[loc[0]].problems.append((loc[1:], message))
        elif parts:
            parts[0].problems.append((loc, message))
    return parts


def _read(documents: Sequence[Document], source: str) -> Parsed:
    parts = [_read_one(document, i, source) for i, document in enumerate(documents, start=1)]
    return join_parsed(parts)


def _read_one(document: Document, number: int, source: str) -> Parsed:
    data = document.data
    if not isinstance(data, dict):
        path = _path(source, f"document {number}")
        return Parsed(problems=(Problem(path, "must be a mapping with kind, name and spec"),))
    found = [*document.problems, *_envelope_problems(data)]
    kind = _kind(data.get("kind"))
    ref = _identity(kind, data)
    spec: Spec | None = None
    if kind is not None:
        try:
            given = data.get("spec")
            text = json.dumps({} if given is None else given)
            spec = SPEC_TYPES[kind].model_validate_json(text, strict=True)
        except ValidationError as error:
            found += [(("spec", *loc), words) for loc, words in explain(error, _known_keys())]
    label = ref.text if ref else _label(kind, data, number)
    problems = tuple(
        Problem(_path(source, f"{label}: {field_path(loc, '')}" if loc else label), words)
        for loc, words in found
    )
    if problems or ref is None or spec is None:
        return Parsed(problems=problems, broken=frozenset({ref} if ref else ()))
    return Parsed(manifests=(Manifest(ref, spec, source),))


def _kind(value: object) -> Kind | None:
    try:
        return Kind(value.lower()) if isinstance(value, str) else None
    except ValueError:
        return None


def _identity(kind: Kind | None, data: dict[str, Any]) -> Ref | None:
    spec = data.get("spec")
    domain = spec.get("domain") if isinstance(spec, dict) else None
    name, tenant = data.get("name"), data.get("tenant")
    wanted: tuple[Any, ...] = {
        None: (),
        Kind.TENANT: (name,),
        Kind.NODE: (name,),
        Kind.ADMIN_POLICY: (name,),
        Kind.EXTERNAL: (name,),
        Kind.DOMAIN: (tenant, name),
        Kind.ENDPOINT: (tenant, domain, name),
    }[kind]
    if kind is None or not all(isinstance(p, str) and NAME.fullmatch(p) for p in wanted):
        return None
    return Ref.parse(kind, "/".join(wanted))


def _label(kind: Kind | None, data: dict[str, Any], number: int) -> str:
    name = data.get("name")
    if kind and isinstance(name, str) and NAME.fullmatch(name):
        return f"document {number} ({kind} {name})"
    return f"document {number}"


def _envelope_problems(data: dict[str, Any]) -> list[tuple[Loc, str]]:
    found: list[tuple[Loc, str]] = [
        ((key,), unknown_key(key, ENVELOPE)) for key in data if key not in ENVELOPE
    ]
    kind = _kind(data.get("kind"))
    if "kind" not in data:
        found.append((("kind",), "is missing"))
    elif kind is None:
        found.append((("kind",), f"must be one of {', '.join(Kind)}, not {data['kind']!r}"))
    found += _name_problems(data, "name")
    if kind in (Kind.DOMAIN, Kind.ENDPOINT):
        found += _name_problems(data, "tenant")
    elif kind and data.get("tenant") is not None:
        found.append((("tenant",), f"a {kind} belongs to no tenant; leave it out"))
    return found


def _name_problems(data: dict[str, Any], key: str) -> list[tuple[Loc, str]]:
    value = data.get(key)
    if value is None:
        return [((key,), "is missing")]
    if not isinstance(value, str):
        return [((key,), f'must be text, not {value!r}; put it in quotes: "{value}"')]
    if len(value) > 63:
        return [((key,), f"is {len(value)} characters long; at most 63 are allowed")]
    return [] if NAME.fullmatch(value) else [((key,), f'"{value}" {_NAME_WORDS}')]


def _known_keys() -> list[str]:
    models = [*Model.__subclasses__()]
    models += [further for model in models for further in model.__subclasses__()]
    return sorted({name for model in models for name in model.model_fields})
