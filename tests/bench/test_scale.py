"""The scale simulation: its arithmetic, and a small zone over a real store."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from bench.scale.__main__ import measurements, panels
from bench.scale.figures import delays, peak
from bench.scale.plot import plot
from bench.scale.simulation import simulate
from bench.scale.size import FULL, Size, cold_endpoints, endpoints

TINY = Size(6, 3, 4, 6, (3, 6), 2, 50.0, 6)


def test_a_change_is_there_when_the_last_node_concerned_has_compiled_it() -> None:
    compiled = {"n1": [(4, 9.0, 0.0), (7, 10.1, 0.0)], "n2": [(6, 10.4, 0.0)], "n3": []}
    found = delays([(5, 10.0, 10.0, 10.2, ["n1", "n2"])], compiled)
    assert [round(one) for one in found.asked] == [400]
    assert [round(one) for one in found.written] == [200]
    assert delays([(7, 10.0, 10.0, 10.2, ["n1", "n2"])], compiled).missing == 1
    assert delays([(5, 10.0, 10.0, 10.2, ["n1", "n3"])], compiled).missing == 1


def test_peak_counts_reads_that_overlap_and_bytes_that_come_together() -> None:
    mib = 1 << 20
    found = peak([(0.0, 1.0, mib), (0.5, 1.01, mib), (1.0, 2.0, mib)])
    assert (found.at_once, found.reads, found.mib, found.seconds) == (2, 3, 3.0, 2.0)
    assert round(found.mib_per_s) == 20
    assert peak([]).reads == 0


def test_the_full_zone_is_what_was_asked_for() -> None:
    assert (FULL.nodes, FULL.domains, FULL.total, FULL.agents[-1]) == (1000, 500, 50_000, 1000)
    assert all(FULL.domains_of(agents) for agents in FULL.agents)
    hosted = list(endpoints(TINY))
    assert {e.spec.node for e in hosted} == {f"n{i}" for i in range(1, 7)}
    places = [(e.spec.node, e.slot) for e in [*hosted, *cold_endpoints(TINY)]]
    assert len(set(places)) == len(places)


async def test_a_small_zone_is_simulated_over_sqlite(tmp_path: Path) -> None:
    outcome = await simulate(f"sqlite://{tmp_path}/zone.db", TINY)
    assert [one.agents for one in outcome.phases] == [3, 6]
    for phase in outcome.phases:
        assert len(phase.delays.asked) == TINY.changes
        assert phase.director_kib > 0
        assert phase.agents_kib > 0
    assert outcome.cold is not None
    assert outcome.cold.endpoints == TINY.total
    assert any(row.name.startswith("cold agent") for row in measurements(outcome))
    ElementTree.fromstring(plot(panels(outcome)))
