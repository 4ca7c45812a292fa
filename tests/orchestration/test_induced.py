"""Induced events: what is done to a run, and how its recalls are read as labels."""

import numpy as np
import pytest

from core.data.digits import Digits
from core.data.load import load_bundle
from tests.bench.induced import ARMS, EPOCHS, PERIOD, Fall, Induced, Loss, Run, Table, cell, falls, truths

SWITCH = 30
AT = np.arange(1, EPOCHS + 1)


def recalls(depth: float, at: int = SWITCH, back: int = EPOCHS + 1, label: int = 2) -> np.ndarray:
    """Ten classes at 0.98; one is lower by ``depth`` from epoch ``at`` to before ``back``."""
    out = np.full((EPOCHS, 10), 0.98)
    out[(at <= AT) & (back > AT), label] -= depth
    return out


@pytest.mark.parametrize(
    ("recall_TC", "events", "doubt"),
    [
        (recalls(0.0), [], False),
        (recalls(0.9), [Fall(30, 2, 0.9)], False),
        (recalls(0.9, back=34), [Fall(30, 0, 0.0)], False),
        (recalls(0.4), [], True),
        (recalls(0.9) + recalls(-0.5, at=38) - recalls(0), [Fall(30, 2, 0.4)], True),
        (
            recalls(0.9, back=34) + recalls(0.9, at=45, label=5) - recalls(0),
            [Fall(30, 0, 0.0), Fall(45, 5, 0.9)],
            False,
        ),
        (recalls(0.9, at=30, back=31), [], False),
    ],
    ids=["none", "lasting", "transient", "half a fall", "half back", "two", "one epoch"],
)
def test_falls_by_hand(recall_TC: np.ndarray, events: list[Fall], doubt: bool) -> None:
    found, doubtful = falls(recall_TC)
    assert [(f.epoch, f.label) for f in found] == [(f.epoch, f.label) for f in events]
    assert [f.left for f in found] == pytest.approx([f.left for f in events])
    assert doubtful == doubt


def table(**courses: np.ndarray) -> Table:
    runs = {
        role: Run("", tuple({"accuracy_class": list(row)} for row in courses.get(role, recalls(0.0))))
        for role in ("dense", "prune", "coreset", "joint")
    }
    return Table("", 0, 360, runs, frozenset(runs))


def test_a_loss_is_single_where_a_control_loses_half_as_much_of_the_class() -> None:
    assert truths(table(joint=recalls(0.9)), "joint") == ([("critical_double_loss", 30)], False)
    assert truths(table(joint=recalls(0.9), coreset=recalls(0.5)), "joint") == ([("single_loss", 30)], False)
    assert truths(table(joint=recalls(0.9), coreset=recalls(0.4)), "joint")[0] == [("critical_double_loss", 30)]
    assert truths(table(joint=recalls(0.9), prune=recalls(0.9, label=7)), "joint")[0] == [("critical_double_loss", 30)]
    assert truths(table(prune=recalls(0.9)), "prune") == ([("single_loss", 30)], False)
    assert truths(table(joint=recalls(0.9, back=34)), "joint") == ([("transient", 30)], False)


def hurt(role: str, loss: Loss) -> Induced:
    """Two epochs of training; the loss is in the second."""
    trainer = Induced(cell(role, "global", 0), load_bundle(Digits(val_fraction=0.0)))
    trainer.loss = loss
    list(trainer.events(until=2))
    return trainer


@pytest.mark.parametrize(("arm", "live", "present"), [("held", False, True), ("weights", True, True)])
def test_a_row_that_is_held_stays_zero_and_another_grows_again(arm: str, live: bool, present: bool) -> None:
    trainer = hurt("joint", ARMS[arm](2, 3))
    row = trainer.network.weights[trainer.network.classifier_weight][3]
    assert bool(row.abs().sum() > 0) == live
    assert bool((trainer.bundle.train.labels[trainer.index_M] == 3).any()) == present


def test_barred_samples_are_away_for_one_interval() -> None:
    trainer = hurt("coreset", ARMS["samples"](2, 3))
    assert not (trainer.bundle.train.labels[trainer.index_M] == 3).any()
    assert ARMS["samples"](2, 3).bars(1 + PERIOD)
    assert not ARMS["samples"](2, 3).bars(2 + PERIOD)
