"""The checker refuses what no correct store answers, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checker import Fault, check
from tests.faults.history import History, Outcome, Settled
from tests.faults.planted import (
    KEY,
    LOCK,
    all_of,
    batch,
    got,
    history,
    listed,
    watched,
    wrote,
)
from tests.faults.simulated import run, without_a_trace

UNKNOWN, REFUSED = Outcome.UNKNOWN, Outcome.REFUSED
A, B = wrote("a", 1, 1), wrote("b", 2, 2)

FINE = {
    "nothing happened": history(),
    "read what was written": history(A, got("a", 1, 2)),
    "read during the write, before it": history(A, got(None, 0, 1.05)),
    "read during the write, after it": history(A, got("a", 1, 0.95)),
    "unknown, and never seen": history(A, wrote("x", 0, 2, outcome=UNKNOWN), got("a", 1, 3)),
    "unknown, and seen much later": history(
        A, wrote("x", 0, 2, outcome=UNKNOWN), got("a", 1, 3), got("x", 9, 50)
    ),
    "a compare that failed since an unknown write may have come between": history(
        A, wrote("x", 0, 2, outcome=UNKNOWN), wrote("b", 2, 3, compare=1, outcome=REFUSED)
    ),
    "gone, perhaps by an unknown deletion": history(
        A, wrote(None, 0, 2, outcome=UNKNOWN), got(None, 0, 3), listed(2, 4)
    ),
    "gone with its lease": history(wrote("a", 1, 1, leased=True), got(None, 0, 3)),
    "a compare on a lock that ran out unseen": history(
        wrote("p", 1, 1, key=LOCK, leased=True),
        wrote("q", 3, 2, key=LOCK, compare=0, leased=True),
    ),
    "the holder's write": history(wrote("p", 1, 1, key=LOCK), wrote("a", 2, 2, tenure=1)),
    "watched all": history(
        A, B, watched(all_of(0, 0), batch(1, 1, (KEY, "a")), batch(2, 2, (KEY, "b")))
    ),
    "listed again over a gap": history(A, B, watched(all_of(0, 0), all_of(2, 2, (KEY, "b", 2)))),
    "in time": history(
        A, Settled(KEY, 1, 1, 1.1), watched(all_of(0, 0), batch(5.9, 1, (KEY, "a")))
    ),
}

WRONG = {
    "an acknowledged write is gone": (Fault.LOST, history(A, got(None, 0, 2)), "found nothing"),
    "an acknowledged write is gone from a listing": (
        Fault.LOST,
        history(A, listed(1, 2)),
        "acknowledged",
    ),
    "rolled back": (Fault.STALE, history(A, B, got("a", 1, 3)), "found a (revision 1)"),
    "a stale listing": (Fault.STALE, history(A, B, listed(1, 3, (KEY, "a", 1))), "saw revision 1"),
    "a listing that mixes two states": (
        Fault.LOST,
        history(A, B, listed(2, 3, (KEY, "a", 1))),
        "was then b",
    ),
    "new, then old again": (
        Fault.STALE,
        history(A, wrote("b", 0, 2, outcome=UNKNOWN), got("b", 2, 3), got("a", 1, 4)),
        "revision 2",
    ),
    "another key shows it was later": (
        Fault.STALE,
        history(A, wrote("z", 5, 2, key="/r/z"), B, got("a", 1, 3)),
        "by then /r/a was b",
    ),
    "read before it was written": (Fault.ORDER, history(got("a", 1, 0), A), "only later"),
    "never written": (Fault.ORDER, history(A, got("ghost", 2, 3)), "nobody ever wrote"),
    "refused, and there all the same": (
        Fault.ORDER,
        history(wrote("a", 0, 1, outcome=REFUSED), got("a", 1, 2)),
        "not written",
    ),
    "written twice": (Fault.ORDER, history(A, B, got("a", 3, 3)), "twice, at revisions 1 and 3"),
    "two writes, one revision": (Fault.ORDER, history(A, wrote("b", 1, 1.05)), "cannot be both"),
    "numbered backwards": (
        Fault.ORDER,
        history(wrote("a", 5, 1), wrote("b", 3, 2)),
        "given revision 3",
    ),
    "two compares on one revision, both accepted": (
        Fault.COMPARE,
        history(A, wrote("b", 2, 2, compare=1), wrote("c", 3, 2, compare=1)),
        "was b at 2",
    ),
    "a compare that holds, refused": (
        Fault.COMPARE,
        history(A, wrote("b", 1, 2, compare=1, outcome=REFUSED)),
        "all it compares",
    ),
    "a lock lost to another": (
        Fault.FENCE,
        history(
            wrote("p", 1, 1, key=LOCK, leased=True),
            wrote("q", 4, 3, key=LOCK, leased=True),
            wrote("a", 5, 4, tenure=1),
        ),
        "went to q at revision 4",
    ),
    "a lock that ran out": (
        Fault.FENCE,
        history(
            wrote("p", 1, 1, key=LOCK, leased=True),
            watched(all_of(0, 0), batch(1, 1, (LOCK, "p")), batch(2, 2, (LOCK, None))),
            wrote("a", 3, 3, tenure=1),
        ),
        "was deleted at revision 2",
    ),
    "a watch with a hole": (
        Fault.WATCH,
        history(A, B, watched(all_of(0, 0), batch(2, 2, (KEY, "b")))),
        "never told",
    ),
    "a watch that lost a part of a revision": (
        Fault.WATCH,
        history(A, watched(all_of(0, 0), batch(1, 1, ("/r/z", None)))),
        "never told of /r/a=a",
    ),
    "a watch that repeats": (
        Fault.WATCH,
        history(A, watched(all_of(0, 0), batch(1, 1, (KEY, "a")), batch(2, 1, (KEY, "a")))),
        "revision 1 after revision 1",
    ),
    "a watch that makes something up": (
        Fault.ORDER,
        history(A, watched(all_of(0, 0), batch(1, 1, (KEY, "ghost")))),
        "cannot be both",
    ),
    "a watch that hangs": (
        Fault.CONVERGE,
        history(A, B, Settled(KEY, 2, 2, 2.1), watched(all_of(0, 0), batch(1, 1, (KEY, "a")))),
        "never",
    ),
    "a watch that is late": (
        Fault.CONVERGE,
        history(A, Settled(KEY, 1, 1, 1.1), watched(all_of(9, 1, (KEY, "a", 1)))),
        "8.0 s",
    ),
    "gone, and a watch knows that nobody deleted it": (
        Fault.LOST,
        history(
            A,
            wrote(None, 0, 2, outcome=UNKNOWN),
            got(None, 0, 3),
            wrote("z", 2, 4, key="/r/z"),
            watched(all_of(0, 0), batch(1, 1, (KEY, "a")), batch(4, 2, ("/r/z", "z"))),
        ),
        "found nothing",
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_a_correct_store_may_answer_is_accepted(name: str) -> None:
    assert check(FINE[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_no_correct_store_answers_is_refused_and_explained(name: str) -> None:
    fault, planted, words = WRONG[name]
    found = check(planted)
    assert fault in {finding.fault for finding in found}, found
    assert any(words in finding.text for finding in found if finding.fault is fault), found


@given(seed=st.integers(0, 2**32), clients=st.integers(1, 6), steps=st.integers(1, 80))
def test_a_simulated_store_is_never_refused(seed: int, clients: int, steps: int) -> None:
    assert check(run(random.Random(seed), clients, steps)) == []


@given(seed=st.integers(0, 2**32), clients=st.integers(1, 6))
def test_an_acknowledged_write_that_left_no_trace_is_refused(seed: int, clients: int) -> None:
    broken = without_a_trace(run(random.Random(seed), clients, 40))
    assert isinstance(broken, History)
    assert {finding.fault for finding in check(broken)} & {Fault.LOST, Fault.STALE}
