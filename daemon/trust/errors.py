"""The one exception of this package."""

from __future__ import annotations


class TrustError(Exception):
    """A certificate, key or zone is not the one it has to be. `hint` is the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
