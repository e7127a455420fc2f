"""docs/access.md says what the matrix says."""

from __future__ import annotations

from pathlib import Path

from daemon.api.matrix import TABLE, Grant

PAGE = Path(__file__).resolve().parents[2] / "docs" / "access.md"
WORDS = {Grant.ALLOWED: "yes", Grant.OWN: "own", Grant.REFUSED: "-"}


def table() -> list[str]:
    return [
        f"| {operation} | {' | '.join(WORDS[grant] for grant in row)} |"
        for operation, row in TABLE.items()
    ]


def test_the_documented_matrix_is_the_real_one() -> None:
    lines = PAGE.read_text().splitlines()
    start = lines.index("|---|---|---|---|---|") + 1
    assert lines[start : lines.index("", start)] == table()
