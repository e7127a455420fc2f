"""JSON-like data <-> YAML 1.2 text, without surprises.

Reading keeps duplicate keys apart as problems, keeps dates as text and never
builds Python objects. Writing quotes whatever any YAML reader, also a 1.1 one,
could take for something else (`no`, `012`, `02:65:00:00:00:01`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from daemon.model.problem import Loc

MAX_VALUES = 2_000_000  # after expanding aliases
_CORE_TAG = "tag:yaml.org,2002:"
_PLAIN = re.compile(
    r"[A-Za-z_/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*"  # words
    r"|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?"  # IPv4
    r"|[0-9a-f]+:[0-9a-f:]*/[0-9]{1,3}"  # IPv6 with prefix length
    r"|[0-9a-f]+(:[0-9a-f]+)*::([0-9a-f]+:)*[0-9a-f]+"  # IPv6
)
_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


class YamlSyntaxError(ValueError):
    """The text is no YAML. The message names line and column where it is known."""


@dataclass(slots=True)
class Document:
    """One document of a stream, and what was wrong with its keys and tags."""

    data: object
    problems: list[tuple[Loc, str]] = field(default_factory=list)


def load_yaml(text: str) -> Iterator[Document]:
    """Every document of a YAML or JSON text. Raises YamlSyntaxError after the last good one."""
    if text.lstrip().startswith(("{", "[")):
        document = _load_json(text)
        if document:
            yield document
            return
    try:
        for node in YAML(typ="safe", pure=True).compose_all(text):
            yield _Reader().read(node)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlSyntaxError(f"{where}{error.problem or error.context}") from error
    except YAMLError as error:
        raise YamlSyntaxError(str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise YamlSyntaxError("is nested too deeply") from error


def _load_json(text: str) -> Document | None:
    """None if it is no JSON: YAML in flow style, perhaps."""
    problems: list[tuple[Loc, str]] = []

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in pairs:
            if key in data:
                problems.append(((key,), "the key is given twice in one mapping"))
            data[key] = value
        return data

    try:
        return Document(json.loads(text, object_pairs_hook=mapping), problems)
    except (ValueError, RecursionError):
        return None


class _Reader:
    """Turns a tree of nodes into data and notes what data cannot hold."""

    def __init__(self) -> None:
        self.problems: list[tuple[Loc, str]] = []
        self.open: set[int] = set()
        self.count = 0

    def read(self, node: Node | None) -> Document:
        data = self.value(node, ()) if node is not None else None
        return Document(data, self.problems)

    def value(self, node: Node, loc: Loc) -> object:
        self.count += 1
        if self.count > MAX_VALUES:
            raise YamlSyntaxError("has too many values once its aliases are expanded")
        if isinstance(node, ScalarNode):
            return self.scalar(node, loc)
        if id(node) in self.open:
            raise YamlSyntaxError(f"line {node.start_mark.line + 1}: an alias contains itself")
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*loc, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, MappingNode)
            return self.mapping(node, loc)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: MappingNode, loc: Loc) -> dict[str, object]:
        data: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.problems.append((loc, f"line {line}: a key must be text"))
                continue
            key = str(key_node.value)
            if key in data:
                self.problems.append(((*loc, key), f"the key is given twice (line {line})"))
            data[key] = self.value(value_node, (*loc, key))
        return data

    def scalar(self, node: ScalarNode, loc: Loc) -> object:
        tag, text = str(node.tag), str(node.value)
        if not tag.startswith(_CORE_TAG):
            self.problems.append((loc, f"the tag {tag} is not supported"))
            return text
        match tag.removeprefix(_CORE_TAG):
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int":
                return _integer(text)
            case "float":
                return _float(text)
        return text


def _integer(text: str) -> int | str:
    """Decimal unless it begins with 0x, 0o or 0b: `010` is ten in YAML 1.2."""
    bare = text.replace("_", "").lstrip("+-").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(bare[:2], 10)
    try:
        number = int(bare[2:] if base != 10 else bare, base)
    except ValueError:
        return text
    return -number if text.startswith("-") else number


def _float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def to_yaml(data: object) -> str:
    """Block style, keys in their own order, two spaces deep. Ends with a newline."""
    return "\n".join(_lines(data)) + "\n"


def _lines(data: object) -> list[str]:
    if isinstance(data, dict) and data:
        lines = []
        for key, value in data.items():
            head, nested = f"{_scalar(str(key))}:", _lines(value)
            if _is_block(value):
                lines += [head, *(f"  {line}" for line in nested)]
            else:
                lines.append(f"{head} {nested[0]}")
        return lines
    if isinstance(data, list | tuple) and data:
        lines = []
        for item in data:
            first, *rest = _lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
        return lines
    return [_scalar(data)]


def _is_block(data: object) -> bool:
    return isinstance(data, dict | list | tuple) and bool(data)


def _scalar(data: object) -> str:
    if isinstance(data, str) and _PLAIN.fullmatch(data) and data.lower() not in _RESERVED:
        return data
    text = json.dumps(data, ensure_ascii=True)
    # JSON writes what is beyond 16 bits as two surrogates, which YAML does not join.
    return re.sub(r"(?:\\u[dD][89abAB]..\\u[dD][c-fC-F]..)", _join_surrogates, text)


def _join_surrogates(match: re.Match[str]) -> str:
    character: str = json.loads(f'"{match[0]}"')
    return f"\\U{ord(character):08x}"
