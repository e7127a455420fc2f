"""What the compiler refuses."""

from __future__ import annotations


class CompileError(Exception):
    """A domain that cannot be turned into rows. `hint` names the next step."""

    def __init__(self, domain: str, message: str, hint: str) -> None:
        super().__init__(f"domain {domain}: {message}")
        self.domain = domain
        self.message = message
        self.hint = hint
