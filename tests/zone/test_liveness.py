"""Who is taken for dead, and how long it takes to believe it."""

from __future__ import annotations

import pytest

from daemon.zone.liveness import BETTER_S, WORSE_S, Bench, Life, Witnesses, judge

NODES = frozenset({"n1", "n2", "n3"})


def seen(leased: str, **unreachable: str) -> Witnesses:
    said = {node: frozenset(those.split()) for node, those in unreachable.items()}
    return Witnesses(NODES, frozenset(leased.split()), said)


@pytest.mark.parametrize(
    ("witnesses", "state", "why"),
    [
        (seen("n1 n2 n3"), Life.ALIVE, ""),
        (seen("n1 n2 n3", n2="n1"), Life.ALIVE, ""),  # one of two: no majority
        (seen("n1 n2 n3", n2="n1", n3="n1"), Life.SUSPECT, "n2, n3 cannot reach it"),
        (seen("n2 n3"), Life.SUSPECT, "it forwards"),
        (seen("n2 n3", n2="n1"), Life.SUSPECT, "it forwards"),
        (seen("n2 n3", n2="n1", n3="n1"), Life.DEAD, "neither"),
        (seen("n2", n2="n1", n3=""), Life.DEAD, "neither"),  # n3 is no witness: it is gone too
        (seen(""), Life.SUSPECT, "nobody is left"),
    ],
)
def test_two_witnesses_decide(witnesses: Witnesses, state: Life, why: str) -> None:
    found, said = judge("n1", witnesses)
    assert found is state
    assert why in said


def test_a_change_is_believed_when_it_lasts_and_a_flap_is_not() -> None:
    bench = Bench()
    well, gone = seen("n1 n2 n3"), seen("n2 n3")
    assert {node: life.state for node, life in bench.look(well, 0).items()} == dict.fromkeys(
        sorted(NODES), Life.ALIVE
    )
    assert bench.look(gone, 10) == {}
    assert bench.look(well, 11) == {}  # it was nothing
    assert bench.look(gone, 12) == {}
    assert bench.look(gone, 12 + WORSE_S - 0.1) == {}
    assert bench.look(gone, 12 + WORSE_S)["n1"].state is Life.SUSPECT
    assert bench.look(well, 20) == {}
    assert bench.look(well, 20 + BETTER_S)["n1"].state is Life.ALIVE


def test_a_wall_clock_that_is_set_back_delays_nothing() -> None:
    bench = Bench()
    bench.look(seen("n1 n2 n3"), 0, wall=100_000)
    bench.look(seen("n2 n3"), 10, wall=100_010)
    life = bench.look(seen("n2 n3"), 10 + WORSE_S, wall=96_000)["n1"]
    assert life.state is Life.SUSPECT
    assert life.since == "1970-01-02T02:40:00+00:00"


def test_another_reason_for_the_same_state_keeps_its_beginning() -> None:
    bench = Bench()
    bench.look(seen("n1 n2 n3"), 0)
    bench.look(seen("n2 n3"), 10)
    first = bench.look(seen("n2 n3"), 20)["n1"]
    cut = seen("n1 n2 n3", n2="n1", n3="n1")
    bench.look(cut, 30)
    second = bench.look(cut, 40)["n1"]
    assert (first.state, second.state) == (Life.SUSPECT, Life.SUSPECT)
    assert first.why != second.why
    assert first.since == second.since
