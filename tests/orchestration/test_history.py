from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from core.events import CoresetSelected, EpochEnded, Evaluation, LayerChange, MaskChanged
from core.flops import Ledger
from orchestration.history import history_row

ENDED = EpochEnded(
    epoch=4,
    trained=30,
    lr=0.05,
    loss_train=math.inf,
    loss_preservation=None,
    noisy_clean_loss=None,
    density=0.25,
    dead_layers=0,
    test=Evaluation(1.5, 0.5, (0.25, 0.75, math.nan)),
    val=None,
    cost=Ledger(dense=10.0, forward=1.0, grad_input=2.0, grad_weight=3.0, selection=4.0, evaluation=5.0),
    full_cost=100.0,
    seconds_prune=0.1,
    seconds_select=0.2,
    seconds=1.0,
)


def test_an_epoch_without_a_switch() -> None:
    row = history_row([ENDED])
    assert (row["epoch"], row["switch"], row["samples_removed"], row["layers"]) == (4, False, 0, None)
    assert (row["flops_dense"], row["flops_sparse"], row["flops_selection"]) == (10.0, 6.0, 4.0)
    assert (row["accuracy_worst_class"], row["accuracy_class"]) == (0.25, [0.25, 0.75, None])
    assert row["accuracy_val"] is row["loss_val"] is row["loss_train"] is None


def test_the_row_is_json() -> None:
    assert json.loads(json.dumps(history_row([ENDED]), allow_nan=False))["coreset_size"] == 30


def test_mask_changes_of_an_epoch_add_up() -> None:
    first = MaskChanged(4, 90, 5, 3, {"a": LayerChange(5, 3, 0.5)})
    second = MaskChanged(4, 95, 2, 2, {"a": LayerChange(1, 1, 0.4), "b": LayerChange(1, 1, 0.9)})
    row = history_row([CoresetSelected(4, 30, 7, 6, 0.5, 0.1, due=True), first, second, ENDED])
    assert (row["switch"], row["samples_removed"], row["samples_added"], row["noise_ratio"]) == (True, 7, 6, 0.5)
    assert (row["weights_removed"], row["weights_grown"]) == (7, 5)
    assert json.loads(row["layers"]) == {
        "a": {"removed": 6, "grown": 4, "density": 0.4},
        "b": {"removed": 1, "grown": 1, "density": 0.9},
    }


def test_what_is_exchanged_between_switches_is_counted_and_is_no_switch() -> None:
    row = history_row([CoresetSelected(4, 30, 7, 6, None, 0.1, due=False), ENDED])
    assert (row["switch"], row["samples_removed"], row["samples_added"]) == (False, 7, 6)


def test_time_is_recorded_once() -> None:
    assert history_row([ENDED])["time"] == pytest.approx(__import__("time").time(), abs=60)


def test_each_split_stands_in_its_own_columns() -> None:
    row = history_row([replace(ENDED, val=Evaluation(0.7, 0.9, (0.8, 1.0)), test=Evaluation(1.5, 0.5, (0.25, 0.75)))])
    assert (row["accuracy_val"], row["loss_val"]) == (0.9, 0.7)
    assert (row["accuracy_test"], row["loss_test"], row["accuracy_class"]) == (0.5, 1.5, [0.25, 0.75])
