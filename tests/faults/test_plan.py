"""A seed means the same faults each time, every kind gets its turn, and none lasts long."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.plan import HOLD_S, Kind, plan, targets
from tests.faults.report import Report, read
from tests.faults.run import VICTIMS, Result

NODES = ("n1", "n2", "n3")
OVER_ETCD = targets(NODES, NODES, VICTIMS)


def test_a_seed_is_the_same_list_each_time() -> None:
    first, again, other = (list(plan(seed, 40, OVER_ETCD)) for seed in (7, 7, 8))
    assert first == again != other


@given(seed=st.integers(0, 10**6), count=st.integers(1, 60))
def test_plans_are_bounded(seed: int, count: int) -> None:
    groups = list(plan(seed, count, OVER_ETCD, longest_s=1.5))
    faults = [fault for group in groups for fault in group]
    assert len(faults) == count
    assert all(fault.hold_s <= min(HOLD_S[fault.kind][1], 1.5) for fault in faults)
    assert all(len({fault.target for fault in group}) == len(group) <= 2 for group in groups)


@given(seed=st.integers(0, 10**6))
def test_every_kind_comes_up(seed: int) -> None:
    kinds = {fault.kind for group in plan(seed, 20, OVER_ETCD) for fault in group}
    assert kinds == set(Kind)


def test_sqlite_has_no_members_and_watchers_are_spared() -> None:
    alone = targets(NODES, (), VICTIMS)
    assert not [target for all_of in alone.values() for target in all_of if "member" in target]
    assert Kind.ISOLATE not in alone
    assert not [victim for victim in VICTIMS if "watch" in victim]


def test_a_report_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    groups = list(plan(3, 12, OVER_ETCD))
    begun = Report(3, 12, "etcd")
    begun.add(Result(faults=[fault for group in groups[:4] for fault in group]))
    begun.write(tmp_path)
    again = read(tmp_path)
    assert (again.seed, again.store) == (3, "etcd")
    assert again.done == begun.done < 12
    assert not again.passed  # not all is done yet
    again.add(Result(faults=[fault for group in groups[4:] for fault in group]))
    assert again.passed


def test_whatever_is_found_fails_the_run_and_is_shown(tmp_path: Path) -> None:
    for sort in ("history", "traffic", "nodes"):
        report = Report(3, 0, "etcd")
        report.add(Result(**{sort: ["something | terrible"]}))
        report.write(tmp_path)
        assert not read(tmp_path).passed
        assert "something | terrible" in (tmp_path / "report.md").read_text()
        assert json.loads((tmp_path / "report.json").read_text())["passed"] is False
