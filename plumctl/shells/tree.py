"""The commands as completion sees them, read from the commands themselves.

What a value may be is read from its metavar: KIND, ENDPOINT, FILE and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from plumctl.cli import COMMANDS, app, load

SHELLS = ("bash", "zsh", "fish")

KINDS = "endpoint domain tenant node"
FORMATS = "table wide json yaml name jsonpath="
#: Metavar -> what completes it: words, or @file, or the kind of object, or $kind of an
#: earlier word.
VALUES = {
    "KIND": f"={KINDS}",
    "FORMAT": f"={FORMATS}",
    "SHELL": f"={' '.join(SHELLS)}",
    "FILE": "@file",
    "ENDPOINT": "endpoint",
    "DOMAIN": "domain",
    "TENANT": "tenant",
    "NODE": "node",
    "OUTCOME": "=done refused failed",
    "ROLE": "=viewer tenant-operator zone-admin",
    "NAME": "$kind",
}


@dataclass(frozen=True, slots=True)
class Flag:
    words: tuple[str, ...]  # --wait, -w
    help: str
    value: str | None  # None: takes none; "": anything


@dataclass(frozen=True, slots=True)
class Verb:
    path: tuple[str, ...]  # ("endpoint", "create")
    help: str
    flags: tuple[Flag, ...]
    places: tuple[str, ...]  # what completes each argument; the last one repeats


def verbs() -> list[Verb]:
    """Every command that does something, in the order of help."""
    return [verb for name in COMMANDS for verb in _walk((name,), load(name))]


def whole_flags() -> list[Flag]:
    """Options before the command that take a value."""
    params = typer.main.get_command(app).params
    return [
        Flag(tuple(param.opts), str(getattr(param, "help", None) or ""), _value(param.metavar))
        for param in params
        if param.metavar
    ]


def _walk(path: tuple[str, ...], command: Any) -> Iterator[Verb]:
    below = getattr(command, "commands", None)
    if below:
        for name, sub in below.items():
            yield from _walk((*path, name), sub)
        return
    flags = []
    places = []
    for param in command.params:
        if param.param_type_name == "argument":
            places.append(_value(param.metavar))
        else:
            takes = not (param.is_flag or param.count)
            value = _value(param.metavar) if takes else None
            flags.append(Flag(tuple(param.opts), param.help or "", value))
    flags.append(Flag(("--help", "-h"), "Show this message and exit.", None))
    # The kind in `delete KIND NAME` decides; in `endpoint create NAME` the name is new.
    if "=" + KINDS not in places:
        places = ["" if place == "$kind" else place for place in places]
    yield Verb(path, (command.help or "").split("\n")[0], tuple(flags), tuple(places))


def _value(metavar: str | None) -> str:
    return VALUES.get(metavar or "", "")


def groups(known: list[Verb]) -> dict[str, list[str]]:
    """Commands that have commands below them, with those."""
    found: dict[str, list[str]] = {}
    for verb in known:
        if len(verb.path) > 1:
            found.setdefault(verb.path[0], []).append(verb.path[1])
    return found
