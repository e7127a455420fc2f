"""Which suffering of the traffic is excused by a cut cable, and which by nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.traffic import Flow
from tests.faults.verdict import Cut, judge

ACROSS = Flow("across", "a", "b", "10.0.0.2", ("n1", "n2"))
BESIDE = Flow("beside", "b", "c", "10.0.0.3", ("n2", "n3"))
INSIDE = Flow("inside", "a", "d", "10.0.0.4", ("n1", "n1"))
CUT = Cut("n1", 100.0, 103.0)
ENOUGH = {
    name: 9
    for name in (
        "tcp exchanges", "udp packets", "icmp packets", "allowed probes", "refused probes",
    )
}  # fmt: skip


def found(tmp_path: Path, *events: dict[str, Any], counts: dict[str, int] = ENOUGH) -> list[str]:
    path = tmp_path / "traffic.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in [*events, {"counts": counts}]))
    return judge([ACROSS, BESIDE, INSIDE], [CUT], path)[0]


def event(what: str, flow: Flow, began: float, ended: float) -> dict[str, Any]:
    return {"what": what, "flow": flow.name, "began": began, "ended": ended}


@pytest.mark.parametrize(
    "one",
    [
        event("udp lost", ACROSS, 101, 105),
        event("icmp lost", ACROSS, 104, 108),
        event("tcp slow", ACROSS, 100.5, 108),
        event("allowed probe failed", ACROSS, 99.5, 103.5),
        event("tcp slow", INSIDE, 50, 51.5),  # the machine is busy
    ],
)
def test_flows_across_a_cut_pause_and_go_on(tmp_path: Path, one: dict[str, Any]) -> None:
    assert found(tmp_path, one) == []


@pytest.mark.parametrize(
    "one",
    [
        event("udp lost", ACROSS, 95, 99),
        event("udp lost", ACROSS, 115, 119),
        event("udp lost", BESIDE, 101, 105),
        event("udp lost", INSIDE, 101, 105),
        event("tcp slow", ACROSS, 100.5, 140),  # came back too late
        event("tcp slow", BESIDE, 100.5, 104),
        event("tcp broken", ACROSS, 101, 103),
        event("allowed probe failed", BESIDE, 101, 105),
        event("refused tcp got through", ACROSS, 101, 101),
        event("refused udp got through", INSIDE, 1, 1),
    ],
)
def test_what_nobody_may_suffer_is_told(tmp_path: Path, one: dict[str, Any]) -> None:
    (told,) = found(tmp_path, one)
    assert one["what"] in told
    assert one["flow"] in told


def test_traffic_that_was_not_there_proves_nothing(tmp_path: Path) -> None:
    assert len(found(tmp_path, counts={**ENOUGH, "udp packets": 0})) == 1
    assert found(tmp_path, counts={})
