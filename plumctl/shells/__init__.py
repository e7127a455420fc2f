"""Completion scripts of the shells, generated from the commands themselves."""

from __future__ import annotations

from plumctl.shells import bash, fish, zsh
from plumctl.shells.tree import SHELLS, verbs

_WRITERS = {"bash": bash.write, "zsh": zsh.write, "fish": fish.write}

__all__ = ["SHELLS", "script"]


def script(shell: str) -> str:
    """The completion script for bash, zsh or fish."""
    return _WRITERS[shell](verbs())
