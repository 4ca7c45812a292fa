"""Arms of a counterfactual: what they share with the factual run, and what they withhold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config import CellConfig
from core.events import CoresetSelected, EpochEnded, Event, MaskChanged, StateRecorded
from core.intervention import ARMS, NOTHING, Fork, Intervention, InterventionError, fork
from core.pruning import PRUNERS
from core.state import dump, load
from core.trainer import Trainer
from tests.core.test_trainer import JOINT, SMALL, bundle, measured, trainer

SWITCH = 4
UPDATING = {
    "rigl": PRUNERS["rigl"](update_every=1),
    "set": PRUNERS["set"](update_every=1),
    "gmp": PRUNERS["gmp"](start=0.0, end=1.0, update_every=1),
}


@cache
def before(cell: CellConfig) -> bytes:
    run = trainer(cell)
    list(run.events(until=SWITCH - 1))
    return dump(run.state())


def arm(cell: CellConfig, intervention: Intervention) -> Trainer:
    run = Trainer(cell, bundle(replace(cell, seed=0)), intervention=intervention)
    run.restore(load(before(cell)))
    return run


def removals(events: list[Event]) -> tuple[list[int], list[int], list[int]]:
    """Epochs in which a coreset was chosen, its state recorded, weights removed or grown."""
    kinds = (CoresetSelected, StateRecorded, MaskChanged)
    chosen, recorded, masked = (sorted({e.epoch for e in events if isinstance(e, kind)}) for kind in kinds)
    return chosen, recorded, masked


@pytest.mark.parametrize("pruner", list(UPDATING))
@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_both_removals_with_the_runs_own_draws_are_the_factual_window_bit_for_bit(
    pruner: str, augmentation: str
) -> None:
    cell = replace(JOINT, pruner=UPDATING[pruner], augmentation=augmentation)
    plan = fork(cell, SWITCH)
    factual, both = trainer(cell), arm(cell, plan.arm("both", 0))
    expected = measured(e for e in factual.events(until=plan.last) if e.epoch >= SWITCH)
    assert measured(both.events(until=plan.last)) == expected
    assert dump(both.state()) == dump(factual.state())


@pytest.mark.parametrize("pruner", list(UPDATING))
@pytest.mark.parametrize("name", list(ARMS))
def test_an_arm_removes_what_it_may_in_the_window_and_nothing_after(pruner: str, name: str) -> None:
    cell = replace(JOINT, pruner=UPDATING[pruner])
    plan = fork(cell, SWITCH)
    assert (plan.first, plan.last, plan.horizon) == (4, 5, 8)
    run = arm(cell, plan.arm(name, 1))
    start = {layer: mask.clone() for layer, mask in run.masking.mask.items()}
    events = list(run.events(until=plan.horizon))
    samples, weights = ARMS[name]
    chosen, recorded, masked = removals(events)
    assert chosen == recorded == ([4] if samples else [])
    assert masked == ([4, 5] if weights else [])
    assert [e.trained for e in events if isinstance(e, EpochEnded)] == [36 if samples else 180] * 5
    for layer, mask in run.masking.mask.items():
        assert torch.equal(mask, start[layer]) or weights
        assert not run.network.weights[layer][~mask].any()
    assert (run.preserved is not None) == samples


def test_a_later_switch_withheld_keeps_the_coreset_and_the_state_recorded_for_it() -> None:
    run = trainer(JOINT)
    list(run.events(until=5))
    assert run.preserved is not None
    coreset, recorded = run.index_M.clone(), run.preserved.log_probs_MC.clone()
    forked = Trainer(JOINT, bundle(JOINT), intervention=fork(JOINT, 6).arm("weights", 0))
    forked.restore(load(dump(run.state())))
    list(forked.events(until=8))
    assert forked.preserved is not None
    assert torch.equal(forked.index_M, coreset)
    assert torch.equal(forked.preserved.log_probs_MC, recorded)


def test_draws_are_shared_by_arms_and_differ_between_seeds() -> None:
    cell = replace(JOINT, pruner=UPDATING["set"])
    plan = fork(cell, SWITCH)
    orders = [[arm(cell, plan.arm(name, draws))._order(4) for name in ARMS] for draws in (0, 1, 2)]
    for shared in orders:
        assert all(torch.equal(order, shared[0]) for order in shared)
    assert not torch.equal(orders[0][0], orders[1][0])
    assert not torch.equal(orders[1][0], orders[2][0])
    first, again = (arm(cell, plan.arm("both", 2)) for _ in "ab")
    assert measured(first.events(until=8)) == measured(again.events(until=8))
    assert dump(first.state()) == dump(again.state())


def test_nothing_is_withheld_by_default() -> None:
    assert all(NOTHING.selects(t) and NOTHING.prunes(t) and NOTHING.seed(7, t) == 7 for t in (1, 10**5))


@given(
    first=st.integers(1, 50),
    length=st.integers(1, 20),
    name=st.sampled_from(list(ARMS)),
    draws=st.integers(0, 9),
    epoch=st.integers(1, 120),
)
def test_an_intervention_acts_from_its_first_epoch_on(
    first: int, length: int, name: str, draws: int, epoch: int
) -> None:
    made = Fork(first, first + length - 1, first + 2 * length).arm(name, draws)
    samples, weights = ARMS[name]
    inside = first <= epoch < first + length
    assert made.selects(epoch) == (epoch < first or (inside and samples))
    assert made.prunes(epoch) == (epoch < first or (inside and weights))
    assert (made.seed(3, epoch) == 3) == (epoch < first or draws == 0)


@pytest.mark.parametrize(
    ("cell", "switch", "said"),
    [
        (CellConfig(**SMALL), 4, "selects no coreset"),
        (CellConfig(**SMALL, selector="el2n", coreset_ratio=0.2), 4, "prunes nothing"),
        (replace(JOINT, pruner="probmask"), 4, "pruner probmask trains through its mask"),
        (JOINT, 5, "epoch 5 is no switch of the cell; its switches with a window: 4, 6"),
        (JOINT, 8, "the switch at epoch 8 has 1 of R = 2 epochs left"),
    ],
)
def test_what_cannot_be_forked_is_one_sentence(cell: CellConfig, switch: int, said: str) -> None:
    with pytest.raises(InterventionError, match=said) as refused:
        fork(cell, switch)
    assert "\n" not in str(refused.value)


def test_the_horizon_ends_with_the_run() -> None:
    cell = replace(JOINT, epochs=9, select_every=3)
    assert fork(cell, 6) == Fork(6, 8, 9)


def test_an_online_selector_is_forked_where_R_makes_a_switch_due() -> None:  # noqa: N802
    cell = replace(JOINT, selector="emp", warmup_epochs=1, select_every=3)
    assert fork(cell, 2).last == 4
    with pytest.raises(InterventionError, match="epoch 4 is no switch of the cell"):
        fork(cell, 4)
