from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.config import CellConfig, as_dict, canonical, cell_id, first_selection, flatten, from_dict, warmup_epochs

JOINT = CellConfig(pruner="rigl", prune_rate=0.5, selector="el2n", coreset_ratio=0.1)


def test_plain_data_round_trips() -> None:
    assert from_dict(as_dict(JOINT)) == JOINT
    assert from_dict(as_dict(JOINT, defaults=True)) == JOINT


def test_only_fields_that_differ_from_their_default_are_written() -> None:
    assert as_dict(JOINT) == {
        "prune_rate": 0.5,
        "pruner": {"name": "rigl"},
        "coreset_ratio": 0.1,
        "selector": {"name": "el2n"},
    }


def test_flatten_dots_the_keys() -> None:
    assert flatten({"pruner": {"name": "rigl", "update_every": {"per_interval": 5}}, "seed": 1}) == {
        "pruner.name": "rigl",
        "pruner.update_every": "per_interval: 5",
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune_rate": 1.0}, "less than 1"),
        ({"prune_rate": "0.5"}, "valid number"),
        ({"coreset_ratio": 0.0}, "greater than 0"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"lr": float("nan")}, "finite number"),
        ({"epoch": 3}, "Unexpected keyword"),
        ({"pruner": {"name": "rigl", "update_evry": 3}}, "Unexpected keyword"),
        ({"pruner": "rigel"}, "does not match any of the expected tags"),
        ({"prune_rate": 0.5}, "needs a pruner"),
        ({"coreset_ratio": 0.5}, "needs a selector"),
        (
            {"coreset_ratio": 0.5, "selector": "glister", "data": {"name": "digits", "val_fraction": 0.0}},
            "glister looks at the validation split, but data.val_fraction is 0; raise it or choose another selector",
        ),
        ({"pruner": {"name": "seven", "decay": 1.0}, "prune_rate": 0.5}, "less than 1"),
        (
            {"coreset_ratio": 0.1, "selector": "emp", "schedule": "skip"},
            "and emp has no warm-up of its own; give warmup_epochs",
        ),
        ({"momentum": 0.0}, "nesterov: true needs a momentum"),
        ({"scope": "classifier", "fc_prune_rate": 0.5}, "under scope: all only"),
        ({"coreset_ratio": 0.1, "selector": "el2n", "select_every": 50}, "first selection would be in epoch 50"),
        (
            {"coreset_ratio": 0.1, "selector": "el2n", "select_every": 15, "schedule": "skip", "warmup_epochs": 30},
            r"select_every 15: the coreset phase would begin in epoch 31, after the last selection \(30\)",
        ),
        (
            {"coreset_ratio": 0.1, "selector": "emp", "epochs": 5, "warmup_epochs": 5},
            r"warmup_epochs 5: the first selection would be in epoch 6, after the last \(5\); lower it",
        ),
        (
            {"coreset_ratio": 0.5, "selector": "el2n", "select_every": 5, "pruner": "gmp", "prune_rate": 0.5},
            "starts at the first selection, here epoch 15; while warmup_epochs is open",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CellConfig(**changes)


def test_an_online_selector_leaves_a_pruner_that_starts_with_the_selection_its_control() -> None:
    """An open warm-up is 0 for both, so both prune from the first epoch that R makes due."""
    joint = CellConfig(coreset_ratio=0.5, selector="emp", select_every=5, pruner="gmp", prune_rate=0.5)
    assert first_selection(canonical(joint)) == first_selection(canonical(replace(joint, coreset_ratio=1.0))) == 5


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"pruner": "rigl", "scope": "classifier"}, {}),
        ({"selector": "el2n", "preservation": "complete", "schedule": "skip", "warmup_epochs": 3}, {}),
        ({"select_every": 7}, {}),
        (
            {"pruner": "rigl", "prune_rate": 0.5, "select_every": 7, "warmup_epochs": 2},
            {"pruner": "rigl", "prune_rate": 0.5},
        ),
        (
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete", "preservation_weight": 0.0},
            {"selector": "el2n", "coreset_ratio": 0.1},
        ),
        (
            {"selector": "el2n", "coreset_ratio": 0.1},
            {"selector": "el2n", "coreset_ratio": 0.1, "warmup_epochs": 2},
        ),
        ({"preservation_from": 30}, {}),
        (
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete", "preservation_from": 20},
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete"},
        ),
        (
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete", "preservation_from": 21},
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete", "preservation_from": 40},
        ),
        (
            {"selector": "el2n", "coreset_ratio": 0.1, "preservation": "complete", "preservation_from": 41},
            {"selector": "el2n", "coreset_ratio": 0.1},
        ),
    ],
)
def test_fields_that_do_not_act_are_not_part_of_the_name(written: dict[str, object], meant: dict[str, object]) -> None:
    assert canonical(CellConfig(**written)) == canonical(CellConfig(**meant))
    assert cell_id(CellConfig(**written)) == cell_id(CellConfig(**meant))


def test_a_pruner_that_reads_the_interval_keeps_it_without_a_coreset() -> None:
    pruner = {"name": "rigl", "update_every": {"per_interval": 5}}
    five = CellConfig(pruner=pruner, prune_rate=0.5, select_every=5)
    assert canonical(five).select_every == 5
    assert cell_id(five) != cell_id(CellConfig(pruner=pruner, prune_rate=0.5, select_every=10))


def test_coreset_only_keeps_its_preservation() -> None:
    plain = CellConfig(selector="el2n", coreset_ratio=0.1)
    assert cell_id(plain) != cell_id(CellConfig(selector="el2n", coreset_ratio=0.1, preservation="complete"))


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01])
def test_the_papers_first_selection_is_epoch_20_at_every_coreset_size(alpha: float) -> None:
    paper = CellConfig(epochs=300, select_every=20, coreset_ratio=alpha, selector="el2n")
    assert warmup_epochs(paper) == {0.1: 15, 0.05: 8, 0.01: 2}[alpha]
    assert first_selection(paper) == 20


@given(warmup=st.integers(0, 60), every=st.integers(1, 30))
def test_first_selection_is_the_first_multiple_of_r_after_k(warmup: int, every: int) -> None:
    cell = CellConfig(epochs=100, coreset_ratio=0.5, selector="el2n", warmup_epochs=warmup, select_every=every)
    assert first_selection(cell) == min(t for t in range(1, 101) if t > warmup and t % every == 0)


def test_the_name_is_the_same_in_another_process() -> None:
    code = (
        "from core.config import *;"
        "print(cell_id(CellConfig(pruner='rigl', prune_rate=.5, selector='el2n', coreset_ratio=.1)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == cell_id(JOINT)
