"""Whatever the nemesis did is undone, whatever else goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plumctl.sandbox.layout import Layout
from tests.faults.arena import Arena, ArenaError
from tests.faults.nemesis import Nemesis
from tests.faults.plan import Fault, Kind


def test_one_heal_that_fails_keeps_no_other_from_healing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arena = Arena(Layout("t-faults"), tmp_path, 1)
    steps: list[tuple[str, float]] = []
    monkeypatch.setattr(arena, "step_clock", lambda name, by: steps.append((name, by)))
    monkeypatch.setattr(arena, "kill", lambda name: None)

    def refuse(node: str) -> None:
        raise ArenaError(f"{node} does not start")

    monkeypatch.setattr(arena, "start_plumd", refuse)
    nemesis = Nemesis(arena, tmp_path / "faults.jsonl")
    nemesis.inject(Fault(Kind.KILL, "plumd:n1", 1))
    nemesis.inject(Fault(Kind.CLOCK, "plumd:n2", 1, 30))
    with pytest.raises(ArenaError, match="n1 does not start"):
        nemesis.heal_all()
    assert steps == [("n2", 30), ("n2", 0)]
    nemesis.heal_all()  # nothing is left to do
    lines = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    phases = [line["phase"] for line in lines if line["kind"] == "clock"]
    assert phases == ["begins", "is on", "heals", "is over"]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
