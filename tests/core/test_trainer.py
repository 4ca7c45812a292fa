from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.config import CellConfig
from core.coresets import SELECTORS
from core.coresets.samples import check_chosen
from core.data.bundle import Bundle, Split
from core.data.load import load_bundle
from core.events import (
    CoresetSelected,
    Diverged,
    EpochEnded,
    Event,
    LayerChange,
    MaskChanged,
    StateRecorded,
    SupportMeasured,
)
from core.flops import forward_flops
from core.measurements import Measurements
from core.models.mlp import Mlp
from core.models.model import ImageShape
from core.pruning import PRUNERS
from core.state import dump, load
from core.steps import batches_of
from core.trainer import Trainer, _noisy_clean
from tests.core.harness import Plain

SMALL = {
    "data": {"name": "synthetic", "samples": 200, "test_samples": 60, "classes": 4, "channels": 3, "size": 8},
    "model": {"name": "small_cnn", "width": 4},
    "epochs": 8,
    "warmup_epochs": 2,
    "select_every": 2,
    "batch_size": 32,
}
JOINT = CellConfig(**SMALL, pruner="rigl", prune_rate=0.8, selector="el2n", coreset_ratio=0.2, preservation="complete")


def joint(pruner: str) -> CellConfig:
    """``JOINT`` with another pruner, and a model that it can act on."""
    units = PRUNERS[pruner]().removes == "hidden units"
    return replace(JOINT, pruner=pruner, model="mlp" if units else JOINT.model)


@cache
def bundle(cell: CellConfig) -> Bundle:
    return load_bundle(cell.data)


def trainer(cell: CellConfig) -> Trainer:
    return Trainer(cell, bundle(replace(cell, seed=0)))


def epochs(events: Iterable[Event]) -> list[EpochEnded]:
    return [event for event in events if isinstance(event, EpochEnded)]


def measured(events: Iterable[Event]) -> list[object]:
    """Events without their wall-clock times."""
    timeless = {"seconds": 0.0, "seconds_prune": 0.0, "seconds_select": 0.0}
    return [replace(e, **{k: v for k, v in timeless.items() if hasattr(e, k)}) for e in events]


def final(cell: CellConfig) -> bytes:
    run = trainer(cell)
    list(run.events())
    return dump(run.state())


def test_algorithm_1_in_order() -> None:
    cell = replace(JOINT, pruner=PRUNERS["rigl"](update_every={"per_interval": 1}))
    kinds = [(type(e).__name__, e.epoch) for e in trainer(cell).events() if not isinstance(e, MaskChanged)]
    expected: list[tuple[str, int]] = []
    for epoch in range(1, 9):
        if epoch > 2 and epoch % 2 == 0:
            expected += [("CoresetSelected", epoch), ("StateRecorded", epoch)]
        expected.append(("EpochEnded", epoch))
    assert kinds == expected


def test_full_data_until_the_first_selection_then_the_coreset() -> None:
    assert [e.trained for e in epochs(trainer(JOINT).events())] == [180] * 3 + [36] * 5


def test_a_switch_counts_what_left_and_what_came() -> None:
    first, *later = [e for e in trainer(JOINT).events() if isinstance(e, CoresetSelected)]
    assert (first.size, first.removed, first.added) == (36, 144, 0)
    assert all(e.removed == e.added for e in later)


def test_state_is_recorded_only_with_preservation() -> None:
    plain = replace(JOINT, preservation="none")
    assert not [e for e in trainer(plain).events() if isinstance(e, StateRecorded)]
    penalties = [e.loss_preservation for e in epochs(trainer(JOINT).events())]
    assert penalties[:3] == [None] * 3
    assert all(penalty is not None and penalty >= 0 for penalty in penalties[3:])


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "none"])
@pytest.mark.parametrize("fc_prune_rate", [None, 0.85])
def test_pruned_weights_stay_zero_through_every_step(name: str, fc_prune_rate: float | None) -> None:
    cell = replace(joint(name), fc_prune_rate=fc_prune_rate, weight_decay=0.1)
    run = trainer(cell)
    for _ in run.events():
        effective = run.masking.evaluated() or run.network.weights
        for layer, mask in run.masking.mask.items():
            assert not effective[layer][~mask].any()
            momentum = run._momentum(run.network.weights[layer])
            if momentum is not None and not cell.pruner.learns_forward:
                assert not momentum[~mask].any()


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "none"])
def test_reported_density_is_the_counted_one(name: str) -> None:
    run = trainer(joint(name))
    total = sum(weight.numel() for weight in run.network.weights.values())
    last = epochs(run.events())[-1]
    effective = run.masking.evaluated() or run.network.weights
    live = sum(int(mask.sum()) for mask in run.masking.mask.values())
    assert last.density == pytest.approx(live / total)
    assert run.cell.pruner.removes == "ranks" or last.density == pytest.approx(0.2, abs=0.01)
    assert sum(int((w != 0).sum()) for w in effective.values()) <= live


def test_trim_prunes_the_classifier_alone() -> None:
    run = trainer(replace(JOINT, scope="classifier"))
    list(run.events())
    assert list(run.masking.mask) == [run.network.classifier_weight]


def pairs() -> list[tuple[str, str]]:
    """Every pruner and every selector, each with two others at least: they never meet but through the trainer."""
    pruners, selectors = ([name for name in table if name != "none"] for table in (PRUNERS, SELECTORS))
    most = max(len(pruners), len(selectors))
    return sorted({(pruners[i % len(pruners)], selectors[(i + i // most) % len(selectors)]) for i in range(2 * most)})


@pytest.mark.parametrize(("pruner", "selector"), pairs())
def test_a_fork_after_any_epoch_is_bit_identical(pruner: str, selector: str) -> None:
    cell = replace(joint(pruner), selector=selector, augmentation="crop_flip")
    whole = trainer(cell)
    events: list[Event] = []
    states: dict[int, bytes] = {}
    for epoch in range(1, 9):
        events += whole.events(until=epoch)
        states[epoch] = dump(whole.state())
    for epoch in (1, 4, 7):
        fork = trainer(cell)
        fork.restore(load(states[epoch]))
        assert measured(fork.events()) == measured(e for e in events if e.epoch > epoch)
        assert dump(fork.state()) == states[8]


def test_cells_share_every_bit_before_the_first_selection() -> None:
    other = replace(JOINT, coreset_ratio=0.5, selector="random", preservation="none")
    first, second = trainer(JOINT), trainer(other)
    assert measured(first.events(until=3)) == measured(second.events(until=3))
    assert {n: t.tolist() for n, t in first.state().tensors.items()}.keys() == second.state().tensors.keys()
    assert all(torch.equal(t, second.state().tensors[n]) for n, t in first.state().tensors.items())


def test_another_seed_is_another_run_and_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    assert final(JOINT) != final(replace(JOINT, seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_same_seed_gives_the_same_bits_in_another_process() -> None:
    code = (
        "import torch, hashlib; torch.set_num_threads(1);"
        "from tests.core.test_trainer import JOINT, final; print(hashlib.sha256(final(JOINT)).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.strip()) == 64


def test_cell_a_alone_equals_cell_a_after_b() -> None:
    alone = final(JOINT)
    final(replace(JOINT, pruner="snip", seed=3))
    assert final(JOINT) == alone


def test_skip_schedule_trains_nothing_between_warmup_and_half_time() -> None:
    cell = replace(JOINT, schedule="skip", epochs=12, select_every=4)
    ended = epochs(trainer(cell).events())
    assert [e.trained for e in ended] == [180] * 2 + [0] * 4 + [36] * 6
    assert len({e.test.accuracy for e in ended[1:6]}) == 1
    assert {e.cost.dense for e in ended[2:6]} == {0.0}


def test_divergence_ends_the_run_and_says_so() -> None:
    events = list(trainer(CellConfig(**SMALL, lr=1e12)).events())
    assert isinstance(events[-1], Diverged)
    assert "training loss" in events[-1].reason
    assert len(epochs(events)) < 8


def test_a_model_that_trains_but_cannot_be_evaluated_has_diverged() -> None:
    run = trainer(CellConfig(**SMALL))
    list(run.events(until=1))
    statistics = next(b for name, b in run.network.module.named_buffers() if name.endswith("running_mean"))
    statistics.fill_(float("nan"))
    events = list(run.events())
    assert isinstance(events[-1], Diverged)
    assert events[-1].reason == "the validation loss is nan of epoch 2"
    assert (epochs(events)[-1].loss_train or 0) < 100


@pytest.mark.parametrize(("every", "due"), [(1, range(1, 9)), (2, (1, 3, 5, 7, 8)), (3, (2, 5, 8)), (20, (8,))])
def test_evaluation_now_and_then_changes_nothing_else(every: int, due: Iterable[int]) -> None:
    runs = [
        Trainer(JOINT, bundle(replace(JOINT, seed=0)), measurements=Measurements(evaluate_every=n)) for n in (1, every)
    ]
    always, seldom = (epochs(run.events()) for run in runs)
    assert [e.epoch for e in seldom if e.test is not None] == list(due)
    for full, thin in zip(always, seldom, strict=True):
        assert (thin.test, thin.val) == ((full.test, full.val) if thin.epoch in due else (None, None))
        assert thin.cost.evaluation == (full.cost.evaluation if thin.epoch in due else 0)
        assert (thin.loss_train, thin.cost.dense) == (full.loss_train, full.cost.dense)
    assert dump(runs[0].state()) == dump(runs[1].state())


def test_the_epoch_in_which_a_run_diverges_is_evaluated() -> None:
    cell = CellConfig(**SMALL, lr=1e12)
    run = Trainer(cell, bundle(CellConfig(**SMALL)), measurements=Measurements(evaluate_every=20))
    *_, ended, diverged = run.events()
    assert isinstance(diverged, Diverged)
    assert isinstance(ended, EpochEnded)
    assert ended.epoch < 8
    assert ended.test is not None


def test_weighted_coreset_weights_the_loss() -> None:
    run = trainer(replace(JOINT, selector="gradmatch", preservation="none"))
    list(run.events(until=4))
    assert run.weight_N is not None
    index_B = run.index_M[:2]
    loss_B = torch.tensor([1.0, 3.0])
    weight_B = run.weight_N[index_B]
    by_hand = (weight_B[0] * 1 + weight_B[1] * 3) / (weight_B[0] + weight_B[1])
    assert run._loss(loss_B, index_B, None).item() == pytest.approx(by_hand.item())


def test_a_selector_is_shown_what_it_needs_and_it_is_charged() -> None:
    run = trainer(JOINT)
    list(run.events(until=2))
    shown = run._samples(frozenset({"logits", "validation", "history"}))
    assert shown.features_ND is None
    assert shown.validation is not None
    assert shown.validation.logits_NC is not None
    torch.testing.assert_close(
        shown.validation.logits_NC, run.network.logits(run.bundle.val.images, run.masking.evaluated())
    )
    assert shown.validation.labels_N.tolist() == run.bundle.val.labels.tolist()
    assert shown.validation.margin_N is None
    once = 2 * sum(layer.macs for layer in run.costs._layers)
    assert run.costs.take().dense == (len(run.bundle.train) + len(run.bundle.val)) * once
    assert shown.margin_N is not None
    assert bool((shown.margin_N.abs() <= 1).all())
    run._samples(frozenset({"history"}))
    assert run.costs.take().dense == 0


@pytest.mark.parametrize(("selector", "sizes"), [("emp", {36}), ("infobatch", set(range(36, 181)))])
def test_an_online_selector_chooses_in_every_epoch(selector: str, sizes: set[int]) -> None:
    run = Trainer(replace(JOINT, selector=selector), bundle(replace(JOINT, seed=0)), measurements=Measurements(20))
    events = list(run.events())
    selected = [e for e in events if isinstance(e, CoresetSelected)]
    assert [e.epoch for e in selected] == list(range(3, 9))
    assert {e.size for e in selected} <= sizes
    assert all(e.removed and e.added for e in selected[1:-1])
    assert [e.epoch for e in events if isinstance(e, SupportMeasured)] == [3, 4, 6, 8]
    trained = [e.trained for e in epochs(events)]
    assert trained[2:] == [e.size for e in selected]


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ([0, 1, 1], "selector el2n returned 1 samples more than once"),
        ([0, 1], "selector el2n returned 2 samples where 3 were asked of it"),
        ([-1, 1, 2], "selector el2n returned samples -1 to 2 of 0 to 9"),
        ([1, 2, 10], "selector el2n returned samples 1 to 10 of 0 to 9"),
    ],
)
def test_what_is_no_coreset_is_refused(index: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_chosen(torch.tensor(index), 3, 10, SELECTORS["el2n"]())
    check_chosen(torch.tensor([9, 0, 4]), 3, 10, SELECTORS["el2n"]())
    check_chosen(torch.tensor([9, 0]), 3, 10, SELECTORS["infobatch"]())


def test_infobatch_ends_with_all_samples_alike() -> None:
    run = trainer(replace(JOINT, selector="infobatch"))
    list(run.events(until=7))
    assert run.weight_N is not None
    assert epochs(run.events())[-1].trained == 180
    assert run.weight_N is None


def test_a_selector_is_shown_its_coreset_and_its_state() -> None:
    run = trainer(replace(JOINT, selector="pbcs"))
    list(run.events(until=3))
    before = run._samples(frozenset({"coreset"}))
    assert before.kept_N is not None
    assert bool(before.kept_N.all())
    assert before.state == {}
    list(run.events(until=4))
    after = run._samples(frozenset({"coreset"}))
    assert after.kept_N is not None
    assert after.kept_N.nonzero().flatten().tolist() == run.index_M.tolist()
    again = trainer(run.cell)
    again.restore(load(dump(run.state())))
    assert torch.equal(again.selector_state["likely"], after.state["likely"])


def test_what_training_notes_is_of_the_last_pass() -> None:
    run = trainer(replace(JOINT, selector="emp"))
    list(run.events(until=2))
    first = run.history
    list(run.events(until=3))
    trained_N = torch.zeros(180, dtype=torch.bool).index_fill(0, run.index_M, value=True)
    assert torch.equal(run.history.entropy_N[~trained_N], first.entropy_N[~trained_N])
    assert bool((run.history.entropy_N != first.entropy_N)[trained_N].all())
    assert 0 <= float(run.history.entropy_N.min()) <= float(run.history.entropy_N.max()) <= math.log(4) + 1e-6


def test_preservation_is_weighted_by_lambda() -> None:
    run = trainer(replace(JOINT, preservation_weight=0.25))
    total = run._loss(torch.tensor([2.0, 4.0]), torch.tensor([0, 1]), torch.tensor(8.0))
    assert total.item() == 3.0 + 0.25 * 8.0


def test_grown_weights_start_from_zero_and_kept_ones_keep_their_momentum() -> None:
    cell = replace(JOINT, pruner=PRUNERS["rigl"](update_every=3), preservation="none")
    run = trainer(cell)
    list(run.events(until=1))
    weight = run.network.weights[run.network.classifier_weight]
    momentum = run._momentum(weight)
    assert momentum is not None
    old, before = run.masking.mask[run.network.classifier_weight], momentum.clone()
    new = old.roll(1)
    run.masking._change({run.network.classifier_weight: new})
    assert not weight[new & ~old].any()
    assert not weight[~new].any()
    assert not momentum[~(old & new)].any()
    assert torch.equal(momentum[old & new], before[old & new])


def test_costs_by_hand_for_the_dense_run() -> None:
    run = trainer(CellConfig(**{**SMALL, "epochs": 1}))
    ended = epochs(run.events())[0]
    assert ended.cost.dense == ended.full_cost == pytest.approx(ended.cost.sparse)
    assert ended.cost.selection == 0
    assert ended.cost.evaluation > 0


def test_sparse_cost_follows_the_density() -> None:
    dense = epochs(trainer(CellConfig(**SMALL)).events(until=1))[0]
    pruned = CellConfig(**SMALL, pruner={"name": "random", "allocation": "uniform"}, prune_rate=0.5)
    half = epochs(trainer(pruned).events(until=1))[0]
    assert half.cost.sparse == pytest.approx(dense.cost.sparse / 2, rel=0.02)
    assert half.cost.dense == dense.cost.dense


def test_dense_gradients_are_charged_whenever_an_update_is_due_even_if_it_changes_nothing() -> None:
    still = PRUNERS["rigl"](update_every=2, drop_fraction=0.0, allocation="uniform")
    run = trainer(replace(JOINT, pruner=still, coreset_ratio=1.0, prune_rate=0.5))
    events = list(run.events(until=1))
    assert [event.epoch for event in events if isinstance(event, MaskChanged)] == [0]
    cost = epochs(events)[0].cost
    # 180 samples in six steps of 30, of which the third and the fifth are due.
    sparse, dense = cost.forward / 180, forward_flops(run.costs._layers)
    assert cost.grad_weight == pytest.approx(120 * sparse + 60 * dense)


@given(samples=st.integers(1, 70), size=st.integers(2, 16))
@settings(max_examples=60, deadline=None)
def test_batches_cover_the_order_and_none_holds_a_single_sample(samples: int, size: int) -> None:
    order = torch.randperm(samples)
    batches = batches_of(order, size)
    assert torch.equal(torch.cat(batches), order)
    assert all(len(batch) > 1 for batch in batches) or samples == 1
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size or samples == 2 * len(batches) + 1


def accuracy(run: Trainer, split: Split) -> float:
    module = run.network.module.eval()
    with torch.no_grad():
        images = (split.images.float() - run.bundle.mean_C.view(1, -1, 1, 1)) / run.bundle.std_C.view(1, -1, 1, 1)
        predicted = module(images).argmax(1)
    module.train()
    return float((predicted == split.labels).float().mean())


def test_each_split_is_evaluated_as_itself_in_evaluation_mode() -> None:
    run = trainer(JOINT)
    ended = epochs(run.events(until=3))[-1]
    assert ended.val is not None
    assert ended.test.accuracy == pytest.approx(accuracy(run, run.bundle.test))
    assert ended.val.accuracy == pytest.approx(accuracy(run, run.bundle.val))
    assert len({accuracy(run, split) for split in (run.bundle.train, run.bundle.val, run.bundle.test)}) == 3


def test_the_selector_is_told_t_over_T(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    told: list[float] = []
    honest = SELECTORS["el2n"].select

    def spy(self: object, samples: object, *, size: int, progress: float, rng: torch.Generator) -> object:
        told.append(progress)
        return honest(self, samples, size=size, progress=progress, rng=rng)

    monkeypatch.setattr(SELECTORS["el2n"], "select", spy)
    list(trainer(JOINT).events())
    assert told == [4 / 8, 6 / 8, 8 / 8]


@pytest.mark.parametrize("pruner", ["snip", "rigl", "probmask"])
def test_looking_at_the_model_leaves_its_batch_norm_statistics(pruner: str) -> None:
    run = trainer(replace(JOINT, pruner=pruner))
    before = {name: buffer.clone() for name, buffer in run.network.module.named_buffers()}
    list(run._init_mask())
    run._samples(frozenset({"logits", "features"}))
    run._record(1, None)
    run.network.evaluate(run.bundle.test, 4, run.masking.evaluated())
    assert all(torch.equal(buffer, before[name]) for name, buffer in run.network.module.named_buffers())


def test_probmask_is_scored_with_its_effective_weights() -> None:
    run = trainer(replace(JOINT, pruner="probmask"))
    list(run.events(until=3))
    logits = run._samples(frozenset({"logits"})).logits_NC
    masked = run.network.logits(run.bundle.train.images, run.masking.evaluated())
    assert logits is not None
    assert torch.equal(logits, masked)
    assert not torch.equal(logits, run.network.logits(run.bundle.train.images))


DROPPING = replace(JOINT, model="mlp", data={**SMALL["data"], "channels": 1}, pruner="lnpt")


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> CellConfig:
    """A cell whose network drops half of the features while it trains."""
    honest = Mlp.build

    def build(self: Mlp, image_shape: ImageShape, num_classes: int) -> nn.Module:
        *layers, last = honest(self, image_shape, num_classes).children()
        return nn.Sequential(*layers, nn.Dropout(0.5), last)

    monkeypatch.setattr(Mlp, "build", build)
    return DROPPING


def test_dropout_is_drawn_by_address(dropping: CellConfig) -> None:
    """Whatever else is drawn in the process, and from a checkpoint on too; and nobody else's draws are disturbed."""
    whole = final(dropping)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert final(dropping) == whole
    assert torch.equal(torch.get_rng_state(), before)
    half = trainer(dropping)
    list(half.events(until=4))
    torch.rand(5)
    rest = trainer(dropping)
    rest.restore(load(dump(half.state())))
    list(rest.events())
    assert dump(rest.state()) == whole


def test_dropout_does_drop(dropping: CellConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = final(dropping)
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, values: values)
    assert final(dropping) != whole


def test_a_teacher_that_is_the_student_sees_no_gap_through_dropout(dropping: CellConfig) -> None:
    run = trainer(dropping)
    probe = run._view(run._moment(1, 0, 1)).probe
    first, second = (probe.features(dict(run.network.weights)) for _ in range(2))
    assert bool((first == 0).any())
    assert torch.equal(first, second)


def test_what_learns_its_mask_trains_with_every_weight() -> None:
    """The forward pass multiplies each weight by a soft factor: three dense products, whatever is left at the end."""
    costs = [event.cost for event in epochs(trainer(joint("probmask")).events())]
    for cost in costs:
        assert cost.sparse == pytest.approx(cost.forward + cost.grad_input + cost.grad_weight)
        assert cost.sparse + cost.selection <= cost.dense * (1 + 1e-9)
    assert costs[0].sparse == pytest.approx(costs[0].dense - costs[0].selection)
    assert costs[-1].forward == pytest.approx(costs[-1].grad_weight)
    dense = [event.cost.forward for event in epochs(trainer(replace(joint("probmask"), prune_rate=0.0)).events())]
    assert costs[-1].forward == pytest.approx(dense[-1])


@pytest.mark.parametrize("pruner", ["grasp", "snip", "synflow"])
def test_a_transformer_can_be_pruned_before_training(pruner: str) -> None:
    model = {"name": "vit_small", "dim": 24, "depth": 1, "mlp": 32}
    run = trainer(replace(JOINT, model=model, pruner=pruner, prune_rate=0.5))
    list(run.events(until=1))
    assert run.masking.density == pytest.approx(0.5, abs=0.01)


def test_lnpt_without_a_layer_before_the_features_goes_by_magnitude() -> None:
    run = trainer(replace(JOINT, model={"name": "mlp", "hidden": []}, pruner={"name": "lnpt", "update_every": 2}))
    list(run.events())
    assert run.masking.density == pytest.approx(0.2, abs=0.01)


def test_what_a_mask_takes_is_removed_and_a_layer_without_weights_is_dead() -> None:
    run = trainer(replace(JOINT, preservation="none"))
    list(run.events(until=1))
    name = run.network.classifier_weight
    old = run.masking.mask[name]
    live = int(old.sum())
    assert run.masking._change({name: torch.zeros_like(old)}) == {name: LayerChange(live, 0, 0.0)}
    assert run.masking.dead_layers == 1
    assert run.masking._change({name: old}) == {name: LayerChange(0, live, live / old.numel())}
    assert run.masking.dead_layers == 0


def test_the_optimizer_follows_the_cosine() -> None:
    run = trainer(CellConfig(**SMALL))
    for epoch in range(1, 9):
        list(run.events(until=epoch))
        by_hand = 0.025 * (1 + math.cos(math.pi * (epoch - 1) / 8))
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(by_hand)


def test_accuracy_by_class_is_recall() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-9, -9]]))
    images = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]]).view(4, 1, 1, 2)  # predicted 0 0 0 1
    found = Plain(module).evaluate(Split(images, torch.tensor([0, 1, 0, 1])), 3)
    assert (found.accuracy, found.class_accuracy[:2]) == (0.75, (1.0, 0.5))
    assert math.isnan(found.class_accuracy[2])


def test_label_noise_is_told_of_the_coreset_and_mislabelled_over_clean() -> None:
    assert _noisy_clean(torch.tensor([3.0, 1, 5, 1]), torch.tensor([True, False, True, False])) == 4.0
    data = {**SMALL["data"], "label_noise": 0.2}
    run = trainer(CellConfig(**{**SMALL, "data": data}, selector="el2n", coreset_ratio=0.2))
    chosen = [event for event in run.events(until=4) if isinstance(event, CoresetSelected)][-1]
    assert chosen.noise_ratio == pytest.approx(float(run.bundle.flipped_N[run.index_M].double().mean()))
