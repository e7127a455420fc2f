"""What a suite reports: figures, bars, and the files written of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.stats import median

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Bar:
    """What a value must be; the unit is the value's."""

    sense: Literal["<=", ">="]
    limit: float

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.sense == "<=" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}"


def at_most(limit: float) -> Bar:
    return Bar("<=", limit)


def at_least(limit: float) -> Bar:
    return Bar(">=", limit)


@dataclass(frozen=True)
class Measurement:
    """One row: a name, a figure per round, and perhaps a bar for their median.

    `context` is what a reader must know to judge a missed bar.
    """

    name: str
    unit: str
    figures: tuple[float, ...]
    bar: Bar | None = None
    context: str = ""

    @property
    def value(self) -> float:
        return median(self.figures)

    @property
    def holds(self) -> bool | None:
        """None without a bar."""
        return None if self.bar is None else self.bar.holds(self.value)

    @property
    def verdict(self) -> str:
        """For the table: nothing without a bar, else yes, or by how much it is missed."""
        if self.bar is None or self.holds:
            return "" if self.bar is None else "yes"
        if not self.bar.limit:
            return "**no**"
        return f"**no**, by {abs(self.value / self.bar.limit - 1):.0%}"


def row(measurement: Measurement) -> dict[str, object]:
    """The shape others read: name, value, unit, must (as "<= 700", or null), holds."""
    return {
        "name": measurement.name,
        "value": rounded(measurement.value),
        "unit": measurement.unit,
        "must": None if measurement.bar is None else str(measurement.bar),
        "holds": measurement.holds,
    }


def rounded(value: float) -> float:
    """Four significant digits, and every digit before the point: no measurement has more."""
    return float(f"{value:.0f}") if abs(value) >= 1000 else float(f"{value:.4g}")


def machine() -> dict[str, object]:
    """What the figures depend on and a reader must know."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }


def markdown(suite: str, measurements: Sequence[Measurement]) -> str:
    """A table with median, range and bar, and one line about the machine."""
    about = machine()
    lines = [
        f"# {suite}",
        "",
        "| what | median | range | unit | must | holds |",
        "|---|---:|---:|---|---|---|",
    ]
    for one in measurements:
        low, high = min(one.figures), max(one.figures)
        spread = f"{rounded(low):.10g} to {rounded(high):.10g}" if len(one.figures) > 1 else ""
        lines.append(
            f"| {one.name} | {rounded(one.value):.10g} | {spread} | {one.unit} "
            f"| {one.bar or ''} | {one.verdict} |"
        )
    missed = [one for one in measurements if one.holds is False and one.context]
    lines += [line for one in missed for line in ("", f"Why {one.name} misses: {one.context}.")]
    lines += [
        "",
        f"{about['cpu']}, {about['cpus']} CPUs, kernel {about['kernel']}, "
        f"load average {about['load_average']:.2f}.",
    ]
    return "\n".join(lines) + "\n"


def write(suite: str, measurements: Sequence[Measurement], directory: Path = RESULTS) -> None:
    """`<suite>.json`, `<suite>.md`, and each round's figure in `rounds/<suite>.json`."""
    rounds = directory / "rounds"
    rounds.mkdir(parents=True, exist_ok=True)
    _write_json(directory / f"{suite}.json", [row(one) for one in measurements])
    (directory / f"{suite}.md").write_text(markdown(suite, measurements))
    every = [
        {"name": one.name, "unit": one.unit, "figures": list(one.figures)} for one in measurements
    ]
    _write_json(rounds / f"{suite}.json", {"machine": machine(), "measurements": every})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
