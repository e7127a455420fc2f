"""A zone under faults: a short run that must find nothing, and one with a bug that must."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumctl.sandbox.layout import Layout
from tests.faults.arena import Arena
from tests.faults.bugs import Bug
from tests.faults.plan import Fault, Kind, plan, targets
from tests.faults.run import VICTIMS, go

SEED = 1


@pytest.fixture
def layout() -> Iterator[Layout]:
    yield (found := Layout("t-faults"))
    folders = (found.run_dir, found.pin_dir, found.store_dir)
    assert not [folder for folder in folders if folder.exists()]
    assert not [name for name in os.listdir("/run/netns") if "t-faults" in name]


@pytest.mark.privileged
@pytest.mark.parametrize("store", ["sqlite", "etcd"])
def test_faults_lose_nothing_and_break_no_flow(tmp_path: Path, layout: Layout, store: str) -> None:
    arena = Arena(layout, tmp_path, SEED, store)
    hits = targets(arena.nodes, arena.members, VICTIMS)
    groups = list(plan(SEED, 9, hits, longest_s=2.0))
    assert {fault.kind for group in groups for fault in group} == set(hits)
    result, _ = go(arena, groups)
    assert result.passed, [*result.history, *result.traffic, *result.nodes][:20]


@pytest.mark.privileged
def test_a_reconciler_that_sweeps_on_an_empty_listing_is_found(
    tmp_path: Path, layout: Layout
) -> None:
    blank = Fault(Kind.BLANK, "plumd:n2", 2.5)
    result, _ = go(Arena(layout, tmp_path, SEED, bug=Bug.SWEEPING), [(blank,)])
    assert any("n2" in found and "lost" in found for found in result.traffic), result
    assert not result.history


@pytest.mark.privileged
def test_a_plumd_that_never_renews_its_certificate_is_found(tmp_path: Path, layout: Layout) -> None:
    expire = Fault(Kind.EXPIRE, "plumd:n2", 0.5)
    result, _ = go(Arena(layout, tmp_path, SEED, bug=Bug.STALE), [(expire,)])
    assert any("does not reach n2" in found for found in result.nodes), result
    assert not result.history and not result.traffic
