"""The held-out histories: what they promise about their labels, and that a few of them are told apart."""

import numpy as np
import pytest

from analysis.runs import validate_history, validate_runs
from tests.analysis.generated_histories import false_alarms, scores
from tests.bench.heldout import SCENARIOS, Loss, Made, found, gap, labelled, make

QUICK = [name for name in SCENARIOS if name != "stall"]  # a clear stall takes seconds to draw


@pytest.fixture(scope="module")
def tables() -> list[Made]:
    return [make(name, "0.3 to 1", np.random.default_rng((5, k))) for k, name in enumerate(QUICK)]


def test_labels_name_runs_and_epochs_of_their_table(tables: list[Made]) -> None:
    for made in tables:
        runs = validate_runs(made.runs).set_index("cell_id")
        validate_history(made.history)
        assert set(made.truths) <= set(runs.index)
        assert bool(made.truths) == (made.scenario not in ("healthy", "noisy", "shrinking noise")) or (
            made.scenario == "missing epochs"
        )
        for cell_id, truth in made.truths.items():
            assert 1 <= truth.epoch <= runs.loc[cell_id, "epochs"]


def test_held_out_histories_are_told_apart(tables: list[Made]) -> None:
    """A floor; tests/bench/heldout.py scores many."""
    made, events = labelled(tables), found(tables)
    wrong, quiet = false_alarms(made, events)
    assert wrong <= 0.03 * quiet
    for score in scores(made, events):
        assert score.matched >= 0.9 * score.labelled - 1, score
        assert score.matched >= 0.9 * score.predicted - 2, score


def test_the_same_seed_makes_the_same_table() -> None:
    one, two = (make("double loss", "0.3 to 1", np.random.default_rng(3)) for _ in range(2))
    assert one.history.equals(two.history)
    assert one.truths == two.truths


def test_gap_by_hand() -> None:
    """Level 0.5 ahead of epoch 5; the reference gains 0.1, the run loses 0.2 but for one epoch: 0.3 below."""
    course = np.array([0.5, 0.5, 0.5, 0.5, 0.3, 0.9, 0.3, 0.3])
    reference = np.array([0.6, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7])
    assert gap(course, [reference], 5)[1:] == pytest.approx([0.3, 0.3, 0.3])
    assert gap(course, [], 5)[1:] == pytest.approx([0.2, 0.2, 0.2])


def test_a_loss_ramps_holds_and_comes_back() -> None:
    loss = Loss("double", 10, depth=0.2, ramp=1, hold=3, back=1.0)
    assert loss.lost(np.arange(6.0)) == pytest.approx([0.5, 1, 1, 1, np.exp(-1), np.exp(-2)])
