"""Manifests from files, directories and stdin, and problems put back into their files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.model.manifest import Parsed, join_parsed, locate, parse_manifests
from daemon.model.problem import Problem as ModelProblem
from plumctl.errors import ExitCode, PlumError, Problem

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read and found right as far as one can tell without the zone."""

    parsed: Parsed

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [manifest.document() for manifest in self.parsed.manifests]

    @property
    def refs(self) -> list[tuple[str, str]]:
        """(kind, path) each."""
        return [(str(item.ref.kind), item.ref.path) for item in self.parsed.manifests]

    def place(self, error: PlumError) -> PlumError:
        """The daemon's refusal, its problems with the file each stands in."""
        found = [ModelProblem(problem.path, problem.message) for problem in error.problems]
        placed = locate(found, self.parsed.manifests)
        if len(placed) == 1 and error.message == str(found[0]):
            return PlumError(str(placed[0]), error.hint, error.exit_code)
        problems = tuple(Problem(problem.path, problem.message) for problem in placed)
        return PlumError(error.message, error.hint, error.exit_code, problems)


def read(sources: Sequence[str]) -> Manifests:
    """Read files, directories (their *.yaml, *.yml and *.json, by name) and `-`.

    Raises PlumError with every problem of every file at once.
    """
    parsed = join_parsed([parse_manifests(text, name) for name, text in _texts(sources)])
    if parsed.problems:
        count = len(parsed.problems)
        raise PlumError(
            f"{count} problem{'s' if count > 1 else ''} in the manifests; nothing was sent",
            "correct them and try again; what a manifest may hold is in docs/manifests.md",
            problems=tuple(Problem(problem.path, problem.message) for problem in parsed.problems),
        )
    if not parsed.manifests:
        raise PlumError(
            f"no manifest in {', '.join(sources)}",
            "a manifest has kind, name and spec; `plumctl export` shows some",
        )
    return Manifests(parsed)


def _texts(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    if list(sources).count("-") > 1:
        raise PlumError("stdin (-) can be read once only", "name it once", ExitCode.USAGE)
    for source in sources:
        if source == "-":
            yield "stdin", _decoded("stdin", sys.stdin.buffer.read())
            continue
        path = Path(source)
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES)
            if not inside:
                raise PlumError(
                    f"no {', '.join('*' + suffix for suffix in SUFFIXES)} in {source}",
                    "name the files themselves",
                )
            for item in inside:
                yield str(item), _file(item)
        else:
            yield source, _file(path)


def _file(path: Path) -> str:
    try:
        return _decoded(str(path), path.read_bytes())
    except OSError as error:
        raise PlumError(
            f"cannot read {path}: {error.strerror}", "check the name and your rights"
        ) from error


def _decoded(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PlumError(f"{name} is not UTF-8 text: {error.reason}", "save it as UTF-8") from error
