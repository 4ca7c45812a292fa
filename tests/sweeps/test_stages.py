"""Which epochs two cells share."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from core.config import CellConfig, canonical, first_selection, preservation_starts, selection_acts_from
from core.coresets import SELECTORS
from core.data import SOURCES
from core.data.load import load_bundle
from core.pruning import PRUNERS
from core.pruning.pruner import Moment
from core.trainer import Trainer
from sweeps.stages import ACTS_FROM, Segment, acts_from, chain, forest
from tests.sweeps.grid import CELLS, el2n, gmp, rigl

DATA = SOURCES["synthetic"](samples=60, test_samples=8, classes=3, val_fraction=0.0)
BUNDLE = load_bundle(DATA)
CONTEXT = {"data": "d1", "torch": "2", "threads": 1}
JOINT = CellConfig(
    epochs=20,
    warmup_epochs=4,
    select_every=4,
    prune_rate=0.5,
    pruner=rigl(),
    coreset_ratio=0.1,
    selector=el2n(),
    seed=3,
)


def epoch_keys(cell: CellConfig, context: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The names of the cell's states after epochs 1 to T."""
    return tuple((s.stage, epoch) for s in chain(cell, context) for epoch in range(s.first, s.last + 1))


def shared(a: CellConfig, b: CellConfig) -> int:
    """Epochs that two cells share; after them nothing is shared."""
    pairs = list(zip(epoch_keys(a, CONTEXT), epoch_keys(b, CONTEXT), strict=True))
    same = [x == y for x, y in pairs]
    assert same == sorted(same, reverse=True)
    return sum(same)


@pytest.mark.parametrize(
    ("change", "epochs"),
    [
        ({"coreset_ratio": 0.2}, 7),
        ({"coreset_ratio": 1.0}, 7),
        ({"selector": el2n(balanced=True)}, 7),
        ({"preservation": "complete"}, 7),
        ({"preservation": "complete", "preservation_weight": 0.2}, 7),
        ({"preservation": "complete", "preservation_from": 8}, 7),
        ({"preservation": "complete", "preservation_from": 9}, 11),
        ({"preservation": "complete", "preservation_from": 12, "preservation_weight": 0.2}, 11),
        ({"preservation": "complete", "preservation_from": 20}, 19),
        ({"preservation": "complete", "preservation_from": 21}, 20),
        ({"schedule": "skip"}, 4),
        ({"warmup_epochs": 3}, 3),
        ({"warmup_epochs": 5}, 20),
        ({"warmup_epochs": 10}, 7),
        ({"select_every": 5}, 4),
        ({"select_every": 10}, 7),
        ({"prune_rate": 0.8}, 0),
        ({"scope": "backbone"}, 0),
        ({"pruner": rigl(stop=0.5)}, 0),
        ({"lr": 0.1}, 0),
        ({"batch_size": 32}, 0),
        ({"data": SOURCES["digits"](label_noise=0.1)}, 0),
        ({"seed": 4}, 0),
    ],
    ids=str,
)
def test_cells_share_what_their_difference_cannot_touch(change: dict[str, Any], epochs: int) -> None:
    assert first_selection(JOINT) == 8
    assert shared(JOINT, replace(JOINT, **change)) == epochs


def test_cells_that_preserve_from_a_later_switch_share_what_comes_before_the_earlier_one() -> None:
    late = replace(JOINT, preservation="complete", preservation_from=16)
    assert shared(late, replace(late, preservation_from=12)) == 11
    assert shared(late, replace(late, preservation_from=None)) == 7
    assert shared(late, replace(late, preservation="selective")) == 15
    assert shared(late, replace(late, preservation_weight=0.2)) == 15
    assert shared(late, replace(late, preservation_from=13)) == 20


def test_another_number_of_epochs_shares_nothing() -> None:
    assert not set(epoch_keys(JOINT, CONTEXT)) & set(epoch_keys(replace(JOINT, epochs=24), CONTEXT))


def test_a_pruner_that_reads_the_interval_makes_it_act_from_the_start() -> None:
    clock = replace(JOINT, pruner=rigl(update_every={"per_interval": 2}))
    assert shared(clock, replace(clock, select_every=10)) == 0
    assert shared(clock, replace(clock, coreset_ratio=1.0)) == 7
    assert shared(clock, replace(clock, warmup_epochs=5)) == 20
    assert shared(clock, replace(clock, warmup_epochs=10)) == 7


ONLINE = [name for name, cls in SELECTORS.items() if cls.online]
OTHER = {"until": 0.3, "memory": 0.4, "balanced": True, "draws": 3, "rounds": 7, "learning_rate": 0.4, "ridge": 0.5}
"""Another value of every hyper-parameter of the selectors that follow training."""


@pytest.mark.parametrize(("name", "first"), [*((name, 1) for name in ONLINE), ("ted", 4), ("pbcs", 4)])
def test_every_field_of_a_selector_that_follows_training_parts_cells_when_it_first_selects(
    name: str, first: int
) -> None:
    open_ = replace(JOINT, epochs=40, select_every=4, warmup_epochs=None if name in ONLINE else 3, selector=name)
    for field in fields(open_.selector):
        if field.name != "name":
            assert shared(open_, replace(open_, selector={"name": name, field.name: OTHER[field.name]})) == first - 1
    for change in ({"coreset_ratio": 0.2}, {"coreset_ratio": 1.0}, {"preservation": "complete"}, {"selector": el2n()}):
        assert shared(open_, replace(open_, **change)) == first - 1


def test_an_online_selector_shares_the_warm_up_it_is_given() -> None:
    online = replace(JOINT, selector="emp")
    assert shared(online, replace(online, selector="infobatch")) == 4
    assert shared(online, JOINT) == 4
    assert shared(online, replace(online, warmup_epochs=5)) == 4
    assert shared(online, replace(online, coreset_ratio=1.0)) == 4
    # Both lead to one first selection by K and R, by which gmp starts, and to others of the selector's own.
    clock = replace(online, pruner=gmp(), warmup_epochs=4)
    assert first_selection(clock) == first_selection(replace(clock, warmup_epochs=5))
    assert shared(clock, replace(clock, warmup_epochs=5)) < 5
    # R is when an online selector is looked at.
    assert shared(online, replace(online, select_every=5)) == 4


@pytest.mark.parametrize(("start", "epochs"), [(None, 7), (0.0, 0), (0.4, 8), (0.45, 9), (1.0, 19)])
def test_gmp_reads_its_rate_from_its_start(start: float | None, epochs: int) -> None:
    cell = replace(JOINT, pruner=gmp(start=start))
    assert shared(cell, replace(cell, prune_rate=0.9)) == epochs
    assert shared(cell, replace(cell, fc_prune_rate=0.9)) == epochs


@given(CELLS, st.sampled_from([0.5, 0.9]))
def test_no_mask_changes_before_gmps_rate_acts(cell: CellConfig, rate: float) -> None:
    cell = canonical(replace(cell, prune_rate=rate, pruner=gmp(start=cell.lr)))
    assert isinstance(cell.pruner, PRUNERS["gmp"])
    for epoch in range(1, acts_from(cell, "prune_rate")):
        moment = Moment(epoch, cell.epochs, 0, 0, 1, cell.select_every, first_selection(cell))
        assert cell.pruner.position(moment) == 0


def test_where_the_data_lie_does_not_matter_but_what_they_are_does() -> None:
    here = replace(JOINT, data=SOURCES["cifar10"](root="a"))
    there = replace(JOINT, data=SOURCES["cifar10"](root="b", download=True))
    assert epoch_keys(here, CONTEXT) == epoch_keys(there, CONTEXT)
    assert not set(epoch_keys(here, CONTEXT)) & set(epoch_keys(here, CONTEXT | {"data": "d2"}))


def test_a_new_version_of_a_selector_keeps_the_epochs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = epoch_keys(JOINT, CONTEXT)
    monkeypatch.setattr(type(JOINT.selector), "semantics_version", 99)
    assert [a == b for a, b in zip(before, epoch_keys(JOINT, CONTEXT), strict=True)] == [True] * 7 + [False] * 13
    monkeypatch.setattr(type(JOINT.pruner), "semantics_version", 99)
    assert not set(before) & set(epoch_keys(JOINT, CONTEXT))


def test_segments_begin_where_a_field_begins_to_act() -> None:
    def spans(cell: CellConfig) -> list[tuple[int, int]]:
        return [(segment.first, segment.last) for segment in chain(cell, CONTEXT)]

    assert spans(JOINT) == [(1, 7), (8, 20)]
    assert spans(replace(JOINT, coreset_ratio=1.0)) == [(1, 20)]
    assert spans(replace(JOINT, pruner=gmp(start=0.5))) == [(1, 7), (8, 10), (11, 20)]
    assert spans(replace(JOINT, schedule="skip", warmup_epochs=0)) == [(1, 20)]


def test_keys_are_the_same_in_every_process() -> None:
    assert epoch_keys(JOINT, CONTEXT) == epoch_keys(replace(JOINT), dict(reversed(CONTEXT.items())))
    assert all(len(stage) == 64 for stage, _ in epoch_keys(JOINT, CONTEXT))


@given(CELLS)
def test_segments_tile_the_epochs(cell: CellConfig) -> None:
    segments = chain(cell, CONTEXT)
    assert [epoch for s in segments for epoch in range(s.first, s.last + 1)] == list(range(1, cell.epochs + 1))
    assert len({s.stage for s in segments}) == len(segments)
    assert chain(canonical(cell), CONTEXT) == segments


def test_a_prune_only_cell_is_cut_where_the_joint_cells_leave_it() -> None:
    full, half = replace(JOINT, coreset_ratio=1.0), replace(JOINT, coreset_ratio=0.5)
    late = replace(JOINT, select_every=10)
    cut = forest({name: chain(cell, CONTEXT) for name, cell in zip("abcd", (full, half, late, JOINT), strict=True)})
    spans = {name: [(s.first, s.last) for s in segments] for name, segments in cut.items()}
    assert spans == {
        "a": [(1, 7), (8, 9), (10, 20)],
        "b": [(1, 7), (8, 20)],
        "c": [(1, 7), (8, 9), (10, 20)],
        "d": [(1, 7), (8, 20)],
    }
    assert len({s for segments in cut.values() for s in segments}) == 6
    assert cut["a"][:2] == cut["c"][:2]


@given(st.lists(CELLS, min_size=1, max_size=8))
def test_a_forest_keeps_every_state_and_branches_only_between_segments(cells: list[CellConfig]) -> None:
    chains = {str(i): chain(cell, CONTEXT) for i, cell in enumerate(cells)}
    cut = forest(chains)
    parents: dict[Segment, Segment | None] = {}
    for name, segments in cut.items():
        states = [(s.stage, epoch) for s in segments for epoch in range(s.first, s.last + 1)]
        assert states == [(s.stage, epoch) for s in chains[name] for epoch in range(s.first, s.last + 1)]
        for parent, segment in zip((None, *segments), segments, strict=False):
            assert parents.setdefault(segment, parent) == parent
    named = {(s.stage, epoch): s for s in parents for epoch in range(s.first, s.last + 1)}
    assert len(named) == sum(s.last - s.first + 1 for s in parents)


@given(CELLS, CELLS)
def test_two_cells_part_at_the_first_field_that_differs_and_never_meet_again(a: CellConfig, b: CellConfig) -> None:
    a, b = canonical(a), canonical(b)
    assume(a != b)
    names = [name for name in a.__dataclass_fields__ if _told(a, name) != _told(b, name)]
    starts = [_starts(cell, name) for cell in (a, b) for name in names]
    assert shared(a, b) == min([*starts, a.epochs + 1]) - 1


def _starts(cell: CellConfig, name: str) -> int:
    """From when a field acts. What preserves from a later switch on preserves nothing before, as a cell without."""
    if not name.startswith("preservation"):
        return acts_from(cell, name)
    if cell.preservation.name == "none" or cell.preservation_from is not None:
        return preservation_starts(cell)
    return acts_from(cell, "preservation")


def _told(cell: CellConfig, name: str) -> Any:
    """A field's value; of a warm-up, the epoch that it leads to."""
    return selection_acts_from(cell) if name == "warmup_epochs" else getattr(cell, name)


@given(CELLS)
def test_nothing_before_the_first_selection_tells_coreset_sizes_apart(cell: CellConfig) -> None:
    assume(cell.coreset_ratio < 1 and cell.warmup_epochs is not None)
    other = replace(cell, coreset_ratio=0.05)
    assert shared(cell, other) >= selection_acts_from(cell) - 1


def state_after(cell: CellConfig, epoch: int) -> dict[str, torch.Tensor]:
    """The whole state of a run on few synthetic images, cloned."""
    trainer = Trainer(cell, BUNDLE)
    list(trainer.events(epoch))
    return {name: tensor.clone() for name, tensor in trainer.state().tensors.items()}


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"coreset_ratio": 0.5}),
        ({}, {"coreset_ratio": 1.0}),
        ({}, {"selector": SELECTORS["forgetting"]()}),
        ({}, {"selector": SELECTORS["emp"]()}),
        ({"selector": SELECTORS["infobatch"]()}, {"selector": SELECTORS["ted"]()}),
        ({"selector": SELECTORS["pbcs"]()}, {"selector": SELECTORS["pbcs"](rounds=1)}),
        ({}, {"preservation": "complete"}),
        ({}, {"preservation": "complete", "preservation_from": 12}),
        ({}, {"schedule": "skip"}),
        ({}, {"warmup_epochs": 7}),
        ({}, {"select_every": 6}),
        ({"pruner": rigl(update_every={"per_interval": 3})}, {"coreset_ratio": 1.0}),
        ({"pruner": gmp(start=0.4, update_every=1)}, {"prune_rate": 0.9}),
        ({"pruner": gmp(update_every=1)}, {"prune_rate": 0.9, "fc_prune_rate": 0.5}),
        ({"pruner": PRUNERS["probmask"]()}, {"coreset_ratio": 0.5}),
    ],
    ids=str,
)
def test_cells_with_one_key_have_one_state(base: dict[str, Any], change: dict[str, Any]) -> None:
    small = replace(JOINT, data=DATA, batch_size=16, coreset_ratio=0.3, **base)
    other = replace(small, **change)
    epochs = shared(small, other)
    assert epochs > 0
    a, b = state_after(small, epochs), state_after(other, epochs)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_table_names_fields_of_the_cell() -> None:
    assert set(ACTS_FROM) <= set(CellConfig.__dataclass_fields__)
