"""What a plan foretells, against what the trainer and the update clock do."""

import json
import math
import sys
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.config import CellConfig, canonical
from core.coresets import SELECTORS
from core.data import SOURCES
from core.data.load import load_bundle
from core.events import EpochEnded, MaskChanged
from core.flops import Ledger, forward_flops, training_flops
from core.macs import measure
from core.measurements import Measurements
from core.models import MODELS
from core.preservation import PRESERVERS
from core.pruning import PRUNERS
from core.pruning.pruner import Moment
from core.pruning.schedule import PerInterval, is_due, updates_due
from core.schedule import batches_in
from core.steps import batches_of
from core.trainer import Trainer
from sweeps.costs import cost, epochs_of, in_force, network, updates_after_switch, work
from sweeps.plan import _bytes, make_plan
from sweeps.spec import SpecError, load, parse
from tests.sweeps.grid import CELLS, GRID, GRIDS, el2n, gmp, rigl

SYNTHETIC = SOURCES["synthetic"](samples=120, test_samples=16, classes=3, val_fraction=0.0)
SMALL = CellConfig(
    data=SYNTHETIC,
    model=MODELS["small_cnn"](width=4),
    epochs=8,
    batch_size=17,
    warmup_epochs=2,
    select_every=2,
    coreset_ratio=0.3,
    selector=el2n(),
    preservation=PRESERVERS["complete"](),
    prune_rate=0.7,
    pruner=rigl(),
)


@pytest.mark.parametrize(
    "pruner",
    [
        rigl(update_every={"per_interval": 3}),
        rigl(update_every=4),
        PRUNERS["set"](update_every=2),
        PRUNERS["random"](),
        *(PRUNERS[name](allocation="uniform") for name in ("snip", "grasp", "synflow")),
        *(PRUNERS[name](allocation="uniform", update_every=4, start=0.25) for name in ("seven", "screening", "lnpt")),
        gmp(allocation="uniform", update_every=1, start=0.25),
        gmp(allocation="uniform", update_every=11, start=0.125),
        gmp(allocation="uniform", update_every=1000, start=0.125),
    ],
    ids=lambda pruner: f"{pruner.name} {getattr(pruner, 'update_every', '')}",
)
@pytest.mark.parametrize(
    "change", [{}, {"coreset_ratio": 1.0}, {"selector": SELECTORS["random"]()}, {"schedule": "skip"}]
)
def test_the_forecast_is_what_a_run_costs(pruner: object, change: dict[str, object]) -> None:
    cell = canonical(replace(SMALL, pruner=pruner, **change))
    events = list(Trainer(cell, load_bundle(cell.data)).events())
    facts = cell.data.facts()
    epochs = epochs_of(cell, facts.train_size)
    ended = [event for event in events if isinstance(event, EpochEnded)]
    assert [epoch.samples for epoch in epochs] == [event.trained for event in ended]
    ledger = sum((event.cost for event in ended), start=Ledger())
    foretold = cost(cell, facts, epochs)
    assert foretold.dense == pytest.approx(ledger.dense)
    # A mask acts from the step after its update, one of two or three in these epochs.
    tolerance = 0.1 if hasattr(cell.pruner, "end") else 0.05
    assert foretold.sparse == pytest.approx(ledger.sparse + ledger.selection, rel=tolerance)
    changes = {event.epoch for event in events if isinstance(event, MaskChanged) and event.epoch > 0}
    assert changes <= {t for t, epoch in enumerate(epochs, start=1) if epoch.updates}


@pytest.mark.parametrize("scope", [{"scope": "all"}, {"scope": "backbone"}, {"fc_prune_rate": 0.4}])
@pytest.mark.parametrize("schedule", [{"update_every": 1, "start": 0.25}, {"update_every": 1000, "start": 0.125}])
def test_a_network_that_shrinks_is_foretold(schedule: dict[str, object], scope: dict[str, object]) -> None:
    channels = PRUNERS["channels"](allocation="uniform", **schedule)
    cell = canonical(replace(SMALL, pruner=channels, prune_rate=0.5, preservation="none", **scope))
    ended = [event for event in Trainer(cell, load_bundle(cell.data)).events() if isinstance(event, EpochEnded)]
    facts = cell.data.facts()
    epochs = epochs_of(cell, facts.train_size)
    spent, foretold = sum((event.cost for event in ended), start=Ledger()), cost(cell, facts, epochs)
    # The network is smaller from the step after a surgery, one of two or three in these epochs.
    assert foretold.dense == pytest.approx(spent.dense, rel=0.05)
    assert foretold.sparse == pytest.approx(spent.sparse + spent.selection, rel=0.05)
    # Where all layers lose the same share of their channels, what is left at last is known to the weight.
    net = network(cell.model, facts.image_shape, facts.num_classes)
    assert net is not None
    layers, density = in_force(cell, net, 1.0)
    assert not density
    assert training_flops(layers, ended[-1].trained).dense == ended[-1].cost.sparse


def test_a_search_for_a_rank_is_foretold_as_if_it_found_none() -> None:
    data = replace(SYNTHETIC, val_fraction=0.25)
    cell = canonical(replace(SMALL, data=data, model="mlp", pruner="lowrank"))
    facts = cell.data.facts()
    epochs = epochs_of(cell, facts.train_size)
    assert [t for t, epoch in enumerate(epochs, start=1) if epoch.updates] == [cell.pruner.acts_from(8, 4)]
    dense = replace(cell, pruner="none", prune_rate=0.0)
    searched = cost(cell, facts, epochs), cost(dense, facts, epochs_of(dense, facts.train_size))
    net = network(cell.model, facts.image_shape, facts.num_classes)
    assert net is not None
    assert searched[0].dense - searched[1].dense == pytest.approx(9 * facts.val_size * forward_flops(net.layers))


@pytest.mark.parametrize("selector", ["glister", "d2", "ccs", "random"])
def test_what_a_selector_looks_at_is_foretold(selector: str) -> None:
    """The training set, the validation split beside it, or neither."""
    data = replace(SYNTHETIC, val_fraction=0.25)
    cell = canonical(replace(SMALL, data=data, selector=selector, pruner="none", prune_rate=0.0))
    ended = [event for event in Trainer(cell, load_bundle(data)).events() if isinstance(event, EpochEnded)]
    facts = data.facts()
    epochs = epochs_of(cell, facts.train_size)
    foretold = cost(cell, facts, epochs)
    assert foretold.dense == pytest.approx(sum(event.cost.dense for event in ended))
    done = work(cell, facts, epochs).flop[-1]
    assert done == pytest.approx(sum(event.cost.dense + event.cost.evaluation for event in ended))


def test_what_looks_through_a_learnt_mask_is_foretold_with_the_one_in_force() -> None:
    """Before epoch t that is the mask renewed at the end of epoch t - 1; an epoch later the budget has fallen more."""
    cell = canonical(replace(SMALL, pruner=PRUNERS["probmask"](), epochs=10, prune_rate=0.9))
    ended = [event for event in Trainer(cell, load_bundle(cell.data)).events() if isinstance(event, EpochEnded)]
    facts = cell.data.facts()
    spent, foretold = sum((event.cost for event in ended), start=Ledger()), cost(cell, facts, epochs_of(cell, 120))
    # A global mask is foretold as a uniform one. An epoch too early it would be 4 % more.
    assert foretold.sparse == pytest.approx(spent.sparse + spent.selection, rel=0.02)


def test_what_is_preserved_is_part_of_a_checkpoints_foretold_size() -> None:
    cell, facts = canonical(SMALL), SYNTHETIC.facts()
    plain = canonical(replace(cell, preservation=PRESERVERS["none"]()))
    run = Trainer(cell, load_bundle(SYNTHETIC))
    list(run.events())
    kept = [tensor for name, tensor in run.state().tensors.items() if name.startswith("preserved/")]
    more, less = (work(each, facts, epochs_of(each, facts.train_size)).bytes for each in (cell, plain))
    assert more - less == sum(tensor.numel() * tensor.element_size() for tensor in kept) > 0


@pytest.mark.parametrize("every", [1, 3, 5, 99])
def test_evaluation_now_and_then_is_foretold(every: int) -> None:
    measurements = Measurements(evaluate_every=every)
    cell = canonical(replace(SMALL, pruner="none", prune_rate=0.0))
    ended = [
        event.cost
        for event in Trainer(cell, load_bundle(cell.data), measurements=measurements).events()
        if isinstance(event, EpochEnded)
    ]
    facts = cell.data.facts()
    told = work(cell, facts, epochs_of(cell, facts.train_size), measurements).flop
    assert told[1:] == pytest.approx(list(accumulate(cost.dense + cost.evaluation for cost in ended)))


@pytest.mark.parametrize("selector", ["emp", "ted", "pbcs", "prunefuse", {"name": "infobatch", "until": 0.6}])
@pytest.mark.parametrize("schedule", ["printed", "skip"])
def test_what_a_selector_that_follows_training_costs_is_foretold(selector: object, schedule: str) -> None:
    cell = canonical(replace(SMALL, selector=selector, schedule=schedule, pruner="none", prune_rate=0.0, epochs=10))
    run = Trainer(cell, load_bundle(cell.data), measurements=Measurements(20))
    ended = [event for event in run.events() if isinstance(event, EpochEnded)]
    facts = cell.data.facts()
    epochs = epochs_of(cell, facts.train_size)
    # How many losses lie below their mean is not known ahead.
    tolerance = 1e-9 if cell.selector.exact_size else 0.25
    assert [epoch.samples for epoch in epochs] == pytest.approx([event.trained for event in ended], rel=tolerance)
    assert cost(cell, facts, epochs).dense == pytest.approx(sum(event.cost.dense for event in ended), rel=tolerance)
    done, spent = (
        work(cell, facts, epochs, Measurements(20)),
        sum(event.cost.dense + event.cost.evaluation for event in ended),
    )
    assert done.flop[-1] == pytest.approx(spent, rel=max(tolerance, 0.01))


@given(
    update_every=st.integers(1, 40) | st.builds(PerInterval, per_interval=st.integers(1, 40)),
    epoch=st.integers(1, 12),
    step=st.integers(0, 60),
    steps=st.integers(0, 30),
    every=st.integers(1, 6),
)
def test_updates_are_counted_as_the_clock_strikes(
    update_every: int | PerInterval, epoch: int, step: int, steps: int, every: int
) -> None:
    moments = [Moment(epoch, 12, step + i, i, steps, every, every) for i in range(steps)]
    first = Moment(epoch, 12, step, 0, steps, every, every)
    assert updates_due(update_every, first) == sum(is_due(update_every, m) for m in moments)


@given(st.integers(1, 200), st.integers(2, 70))
def test_steps_are_the_trainers_batches(samples: int, batch_size: int) -> None:
    assert batches_in(samples, batch_size) == len(batches_of(torch.arange(samples), batch_size))
    assert batches_in(0, batch_size) == 0


@given(CELLS)
def test_a_coreset_never_costs_more_than_all_samples(cell: CellConfig) -> None:
    cell = canonical(cell)
    epochs = epochs_of(cell, 1000)
    assert len(epochs) == cell.epochs
    assert sum(epoch.samples for epoch in epochs) <= 1000 * cell.epochs
    updates = updates_after_switch(cell, epochs)
    assert (updates is None) == (cell.coreset_ratio == 1 or cell.prune_rate == 0)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_measured_without_its_weights(name: str) -> None:
    model, shape = MODELS[name](), (3, 32, 32)
    found = network(model, shape, 10)
    assert found is not None
    assert found.layers == measure(model.build(shape, 10), shape)


def test_the_papers_real_compute() -> None:
    told = ["data.download=true", "cells=[{scope: classifier}]", "axes.seed=[0, 1, 2]"]
    plan = make_plan(load(GRIDS / "paper-table1-r18.yaml", told))
    trained = {point.coreset_ratio: round(point.trained, 3) for point in plan.points if point.prune_rate == 0}
    assert trained == {1.0: 1.0, 0.1: 0.157, 0.05: 0.110, 0.01: 0.073}
    assert {(p.prune_rate, p.coreset_ratio): round(p.paper, 4) for p in plan.points}[0.9, 0.1] == 0.01
    assert plan.least_updates is not None
    assert plan.least_updates > 0


def test_a_plan_is_what_is_wanted_minus_what_is_finished() -> None:
    spec = parse(GRID)
    plan = make_plan(spec)
    assert (plan.listed, len(plan.cells), plan.added, len(plan.to_do)) == (8, 8, 0, 8)
    assert plan.remaining == plan.total
    assert plan.total.epochs == 8 * 12
    assert plan.total.samples == 4 * (12 * 1294) + 4 * (2 * 1294 + 10 * 129)
    some = frozenset(cell.cell_id for cell in plan.cells[:3])
    later = make_plan(spec, some | {"of another sweep"})
    assert later.to_do == plan.cells[3:]
    assert later.finished == some
    assert later.total == plan.total
    assert later.remaining.epochs == 5 * 12
    done = make_plan(spec, frozenset(cell.cell_id for cell in plan.cells))
    assert (done.to_do, done.remaining.samples, done.remaining.dense) == ((), 0, 0.0)


def test_a_plan_is_plain_data_and_a_summary() -> None:
    plan = make_plan(parse(GRID))
    data = json.loads(json.dumps(plan.as_dict(), allow_nan=False))
    assert data["to_do"] == [cell.cell_id for cell in plan.cells] == list(data["cells"])
    assert data["cells"][plan.cells[-1].cell_id]["pruner"] == {"name": "rigl", "update_every": {"per_interval": 5}}
    assert dict(plan.rows())["cells"] == "8 listed, 8 distinct (0 baselines added)"
    assert dict(plan.rows())["samples trained, share of dense training"] == "0.250 at α = 0.1"


def test_without_torch_samples_are_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    plan = make_plan(parse(GRID))
    assert (plan.total.dense, plan.total.sparse) == (None, None)
    assert plan.total.samples > 0
    assert dict(plan.rows())["dense compute"] == "unknown without torch"
    assert plan.works()[plan.cells[0].cell_id].flop[-1] == 12.0 * 1294
    monkeypatch.undo()
    network.cache_clear()


@pytest.mark.parametrize(
    ("told", "warning"),
    [
        (["pruner.update_every=100000"], "2 of 2 joint cells have no mask update after their first selection"),
        (["pruner.stop=0.1"], "2 of 2 joint cells have no mask update after their first selection"),
        (["pruner=snip"], "2 of 2 joint cells have no mask update after their first selection"),
        (
            ["pruner=snip"],
            "2 of 2 joint cells have no mask update after their first selection, so nothing can be lost "
            "twice in them: snip sets its mask once",
        ),
        (["axes.prune_rate=[0]"], "pruner rigl does nothing: every prune_rate is 0"),
        (["axes.coreset_ratio=[1]"], "selector el2n does nothing: every coreset_ratio is 1"),
        (
            ["axes.coreset_ratio=[1]", "preservation=complete"],
            "preservation complete does nothing: it acts on coresets",
        ),
        (
            ["pruner=gmp", "axes.coreset_ratio=[1]", "select_every=20"],
            "2 of 2 pruned cells are pruned in one step, in epoch 12: gmp would begin at pruner.start",
        ),
        (["axes.seed=[0]"], "some cells have 1 seed only: intervals need 3 or more, add values to axes.seed"),
        ([], "some cells have 2 seeds only"),
        (["baselines=false"], "baselines: false, so gains and synergies are undefined"),
    ],
)
def test_warnings(told: list[str], warning: str) -> None:
    assert any(
        line.startswith(warning.replace("2 of 2", "1 of 1") if "axes.seed=[0]" in told else warning)
        for line in make_plan(parse(GRID, overrides=told)).warnings
    )


def test_no_warning_without_reason() -> None:
    assert make_plan(parse(GRID, overrides=["axes.seed=[0, 1, 2]"])).warnings == ()


def test_a_model_that_cannot_take_the_images_is_named() -> None:
    with pytest.raises(SpecError, match="model small_cnn on synthetic: small_cnn needs images of at least 2 x 2"):
        make_plan(parse("cell: {data: {name: synthetic, size: 1}}"))


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (
            "prune_rate: 0.99, pruner: rows",
            "small_cnn on digits: pruner rows can remove 0 of the weights of the 4 layers in scope",
        ),
        (
            "prune_rate: 0.99, pruner: channels, scope: classifier",
            "channels can remove 0.968 of the weights of .*, not 0.99: lower the",
        ),
        (
            "prune_rate: 0.99, pruner: channels, model: vit_tiny, scope: classifier",
            "pruner channels can remove 0 of the weights of ",
        ),
        ("prune_rate: 0.99, pruner: lowrank, scope: backbone", "pruner lowrank finds no linear layer in scope"),
        (
            "prune_rate: 0.99, pruner: {name: lowrank, layer: fc}",
            "pruner.layer fc is no linear layer in scope: set one of ",
        ),
        (
            "prune_rate: 0.0, model: vit_tiny, coreset_ratio: 0.1, selector: {name: prunefuse, rate: 0.8}",
            "the copy of selector prunefuse: pruner channels can remove 0.6",
        ),
    ],
)
def test_what_a_pruner_cannot_remove_is_refused_before_anything_runs(cell: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make_plan(parse(f"cell: {{{cell}, select_every: 4}}"))


def test_global_allocations_are_foretold_as_uniform() -> None:
    cell = replace(SMALL, pruner=PRUNERS["random"](allocation="global"), scope="classifier")
    facts = cell.data.facts()
    dense = cost(replace(cell, prune_rate=0.0), facts, epochs_of(cell, facts.train_size))
    sparse = cost(cell, facts, epochs_of(cell, facts.train_size))
    assert dense.sparse is not None
    assert sparse.sparse is not None
    assert 0 < sparse.sparse < dense.sparse
    assert math.isclose(dense.dense or 0, sparse.dense or 0)


def test_sizes_are_rounded_and_not_cut() -> None:
    sizes = {999: "999 B", 1_950: "1.95 kB", 1_950_000_000: "1.95 GB", 999_900: "1 MB", 2_500_000_000_000: "2.5 TB"}
    assert {size: _bytes(size) for size in sizes} == sizes


def test_updates_after_the_switch_include_its_own_epoch() -> None:
    cell = canonical(replace(SMALL, pruner=rigl(update_every={"per_interval": 3})))  # first switch: epoch 4
    epochs = epochs_of(cell, 120)
    assert epochs[3].updates > 0
    assert updates_after_switch(cell, epochs) == sum(epoch.updates for epoch in epochs[3:])
