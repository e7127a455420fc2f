"""The one exception of this package."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.model.problem import Problem

INVALID = 422
CONFLICT = 409
NOT_FOUND = 404


class ZoneError(Exception):
    """What was asked cannot be done; nothing was written.

    `code` is the HTTP status: 422 invalid, 409 conflict, 404 not found.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        problems: Sequence[Problem] = (),
        code: int = INVALID,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)
        self.code = code

    def document(self) -> dict[str, object]:
        """The body of the API's error answer."""
        problems = [{"path": p.path, "message": p.message} for p in self.problems]
        return {"error": {"message": self.message, "hint": self.hint, "problems": problems}}


class Problems:
    """Collects what is wrong, so that all of it is said at once."""

    def __init__(self, found: Sequence[Problem] = ()) -> None:
        self.found = list(found)
        self.conflicts = 0

    def add(self, path: str, message: str, *, conflict: bool = False) -> None:
        """`conflict`: valid by itself, but in the way of something that exists."""
        self.found.append(Problem(path, message))
        self.conflicts += conflict

    def raise_any(self) -> None:
        if not self.found:
            return
        count = len(self.found)
        message = str(self.found[0]) if count == 1 else f"{count} problems, nothing was changed"
        code = CONFLICT if self.conflicts == count else INVALID
        raise ZoneError(message, "correct what is listed and try again", self.found, code)
