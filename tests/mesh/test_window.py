"""What the last probes to a peer say."""

from __future__ import annotations

from daemon.mesh.window import LOST_IN_A_ROW, TIMEOUT_S, WINDOW, Window


def test_times_and_losses_of_the_last_probes_count() -> None:
    window = Window()
    assert window.state().median_s is None
    for sequence in range(2 * WINDOW):
        window.sent(sequence, float(sequence))
        if sequence % 4:
            window.answered(sequence, sequence + 0.001 * (1 + sequence % 4))
        window.expire(float(sequence) + 0.5)
    window.expire(3.0 * WINDOW)
    state = window.state()
    assert (state.sent, state.lost) == (WINDOW, WINDOW // 4)
    assert state.median_s is not None and abs(state.median_s - 0.003) < 1e-6
    assert state.reachable


def test_a_few_losses_in_a_row_are_unreachable_and_one_answer_ends_it() -> None:
    window = Window()
    for sequence in range(LOST_IN_A_ROW):
        assert window.state().reachable
        window.sent(sequence, 0.0)
        window.expire(TIMEOUT_S + 0.1)
    assert not window.state().reachable
    window.sent(9, 5.0)
    window.answered(9, 5.001)
    assert window.state().reachable


def test_late_double_and_made_up_answers_change_nothing() -> None:
    window = Window()
    window.sent(1, 0.0)
    window.expire(TIMEOUT_S + 0.1)
    window.answered(1, TIMEOUT_S + 0.2)
    window.answered(77, 0.1)
    window.sent(2, 2.0)
    window.answered(2, 2.1)
    window.answered(2, 2.2)
    state = window.state()
    assert (state.sent, state.lost) == (2, 1)
