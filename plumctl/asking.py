"""Asking before what cannot be taken back."""

from __future__ import annotations

import sys

from plumctl import output
from plumctl.errors import ExitCode, PlumError


def sure(what: str, *, yes: bool, stdin_is_data: bool = False) -> None:
    """Returns if the person says yes, or said so with --yes. Off a terminal only --yes counts."""
    if yes:
        return
    output.note(what)
    if stdin_is_data or not output.is_terminal(sys.stdin):
        raise PlumError(
            "this needs a yes, and nobody can be asked here", "add --yes", ExitCode.USAGE
        )
    sys.stderr.write("Type yes to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise PlumError("not confirmed, nothing was changed", "type yes, or add --yes")
