"""What a run found, as JSON and Markdown; a run can go on where another was broken off."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.run import Result

SHOWN = 20  # findings of each sort in the Markdown; the JSON has all


@dataclass
class Report:
    seed: int
    wanted: int
    store: str
    legs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(len(leg["faults"]) for leg in self.legs)

    @property
    def passed(self) -> bool:
        return self.done >= self.wanted and all(leg["passed"] for leg in self.legs)

    def add(self, result: Result) -> None:
        self.legs.append(result.plain())

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "seed": self.seed,
            "wanted": self.wanted,
            "store": self.store,
            "done": self.done,
            "passed": self.passed,
            "legs": self.legs,
        }
        draft = folder / "report.json.new"
        draft.write_text(json.dumps(document, indent=1) + "\n")
        draft.replace(folder / "report.json")
        (folder / "report.md").write_text(self.markdown())

    def markdown(self) -> str:
        kinds = _sum(leg["by_kind"] for leg in self.legs)
        counts = _sum(leg["counts"] for leg in self.legs)
        lines = [
            "# Fault run",
            f"**{'Passed' if self.passed else 'Failed'}**: {self.done} of {self.wanted} faults, "
            f"seed {self.seed}, store {self.store}, "
            f"{sum(leg['seconds'] for leg in self.legs):.0f} s in {len(self.legs)} legs.",
            f"The slowest return to normal after a heal took "
            f"{max((leg['slowest_settle_s'] for leg in self.legs), default=0):.2f} s.",
            "",
            *_table("fault", kinds),
            *_table("what was recorded", counts),
        ]
        for sort, title in (
            ("history", "Answers no correct store gives"),
            ("traffic", "Traffic that suffered"),
            ("nodes", "Nodes that did not come back"),
        ):
            found = [text for leg in self.legs for text in leg[sort]]
            lines += [f"## {title}: {len(found)}", *(f"- {text}" for text in found[:SHOWN])]
            if len(found) > SHOWN:
                lines.append(f"- and {len(found) - SHOWN} more in report.json")
            lines.append("")
        return "\n".join(lines).rstrip() + "\n"


def read(folder: Path) -> Report:
    """Raises FileNotFoundError when there is nothing to go on with."""
    document = json.loads((folder / "report.json").read_text())
    return Report(document["seed"], document["wanted"], document["store"], document["legs"])


def _sum(tables: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(sorted(total.items()))


def _table(title: str, rows: dict[str, int]) -> list[str]:
    return [f"| {title} | number |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items()), ""]
