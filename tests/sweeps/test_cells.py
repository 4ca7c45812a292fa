"""From listed to distinct cells."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import CellConfig, canonical, cell_id
from core.pruning import PRUNERS
from sweeps.cells import applies, baselines, common_and_varied, difference, expand, joint, label, labels, swept_fields
from sweeps.spec import SweepSpec, load, parse
from tests.sweeps.grid import CELLS, GRID, GRIDS, el2n, gmp, rigl


def spec_of(cells: list[CellConfig], *, baselines: bool = True) -> SweepSpec:
    return replace(parse("name: x"), listed=tuple(cells), baselines=baselines)


@pytest.mark.parametrize(("grid", "listed", "distinct"), [("quickstart", 240, 195), ("bench", 120, 105)])
def test_counts_of_the_shipped_grids(grid: str, listed: int, distinct: int) -> None:
    cells = expand(load(GRIDS / f"{grid}.yaml"))
    assert (cells.listed, len(cells.cells)) == (listed, distinct)
    assert not any(cell.added for cell in cells.cells)


def test_cells_that_train_alike_are_one_and_counted() -> None:
    cells = expand(parse(GRID, overrides=["axes.selector=[el2n, random]", "axes.seed=[0]"])).cells
    merged = {(c.config.prune_rate, c.config.coreset_ratio, c.config.selector.name): c.listed for c in cells}
    assert merged == {
        (0.0, 1.0, "none"): 2,
        (0.0, 0.1, "el2n"): 1,
        (0.0, 0.1, "random"): 1,
        (0.5, 1.0, "none"): 2,
        (0.5, 0.1, "el2n"): 1,
        (0.5, 0.1, "random"): 1,
    }


def test_a_joint_cell_brings_its_baselines() -> None:
    told = ["axes.prune_rate=[0.5]", "axes.coreset_ratio=[0.1]", "axes.preservation=[complete]", "axes.seed=[4]"]
    one, *rest = expand(parse(GRID, overrides=told)).cells
    assert (one.listed, one.added) == (1, False)
    assert [(c.added, c.config.prune_rate, c.config.coreset_ratio, c.config.selector.name) for c in rest] == [
        (True, 0.0, 1.0, "none"),
        (True, 0.5, 1.0, "none"),
        (True, 0.0, 0.1, "el2n"),
    ]
    assert {(c.config.preservation.name, c.config.seed) for c in rest} == {("none", 4)}
    assert len(expand(parse(GRID, overrides=[*told, "baselines=false"])).cells) == 1


def test_pruning_the_classifier_alone_is_joint_and_its_baseline_is_not() -> None:
    cell = CellConfig(fc_prune_rate=0.9, pruner=rigl(), coreset_ratio=0.1, selector=el2n())
    assert joint(cell)
    assert [joint(control) for control in baselines(cell)] == [False, False, False]


def test_a_coreset_only_cell_keeps_its_preservation_as_a_cell_of_its_own() -> None:
    told = ["axes.prune_rate=[0]", "axes.coreset_ratio=[0.1]", "axes.preservation=[none, complete]"]
    assert len(expand(parse(GRID, overrides=told)).cells) == 4


def test_prune_only_is_one_cell_for_all_coreset_sizes_although_gmp_starts_at_the_first_selection() -> None:
    common = {"pruner": gmp(), "prune_rate": 0.5, "selector": el2n(), "epochs": 300}
    controls = {baselines(CellConfig(coreset_ratio=ratio, **common))[1] for ratio in (0.1, 0.05)}
    assert len(controls) == 1


@given(st.lists(CELLS, max_size=12, unique=True))
def test_expansion(listed: list[CellConfig]) -> None:
    cells = expand(spec_of(listed))
    configs = [cell.config for cell in cells.cells]
    assert cells.listed == len(listed) == sum(cell.listed for cell in cells.cells)
    assert len(set(configs)) == len(configs) == len({cell.cell_id for cell in cells.cells})
    assert all(
        canonical(config) == config and cell_id(config) == cell.cell_id
        for config, cell in zip(configs, cells.cells, strict=True)
    )
    assert {canonical(cell) for cell in listed} <= set(configs)
    for cell in listed:
        assert not joint(cell) or set(baselines(cell)) <= set(configs)
    # What is expanded is closed: expanding it again adds nothing but what an open warm-up leaves to decide.
    fixed = [config for config in configs if config.pruner.name != "gmp"]
    assert {cell.config for cell in expand(spec_of(fixed)).cells} <= set(configs)


@given(CELLS)
def test_a_field_that_does_not_apply_has_its_default(cell: CellConfig) -> None:
    cell, default = canonical(cell), CellConfig()
    for name in ("pruner", "scope", "fc_prune_rate", "selector", "preservation", "schedule", "select_every"):
        assert applies(cell, name) or getattr(cell, name) == getattr(default, name)


def test_fields_apply_where_they_act() -> None:
    dense, pruned = CellConfig(), CellConfig(pruner=rigl(update_every={"per_interval": 3}), prune_rate=0.5)
    assert not applies(dense, "pruner.stop")
    assert not applies(dense, "select_every")
    assert applies(dense, "prune_rate")
    assert applies(pruned, "pruner.stop")
    assert applies(pruned, "select_every")  # the pruner's clock reads it
    assert not applies(pruned, "warmup_epochs")
    coreset = CellConfig(coreset_ratio=0.1, selector=el2n())
    assert applies(coreset, "selector.balanced")
    assert not applies(coreset, "preservation_weight")
    assert applies(coreset, "preservation.name")


def test_swept_fields_leave_out_what_differs_only_where_it_does_not_act() -> None:
    cells = expand(parse(GRID, overrides=["axes.selector=[el2n, {name: el2n, balanced: true}]"])).cells
    assert swept_fields(cell.config for cell in cells) == ("prune_rate", "coreset_ratio", "seed", "selector.balanced")


def test_swept_fields_see_a_parameter_that_is_here_a_number_and_there_a_mapping() -> None:
    kinds = (rigl(update_every=9), rigl(update_every={"per_interval": 9}), gmp(start=0.5))
    cells = [CellConfig(prune_rate=0.5, pruner=pruner) for pruner in kinds]
    assert swept_fields(cells[:2]) == ("pruner.update_every",)
    assert set(swept_fields(cells[1:])) == {"pruner.allocation", "pruner.name", "pruner.update_every"}


def test_difference() -> None:
    a = CellConfig(prune_rate=0.5, pruner=rigl(), lr=0.1)
    b = CellConfig(prune_rate=0.8, pruner=PRUNERS["snip"]())
    changed = difference(a, b)
    assert changed["prune_rate"] == (0.5, 0.8)
    assert changed["lr"] == (0.1, 0.05)
    assert changed["pruner.name"] == ("rigl", "snip")
    assert changed["pruner.stop"] == (0.75, None)
    assert difference(a, replace(a, selector=el2n())) == {}


def test_a_difference_tells_what_is_left_open_from_what_does_nothing() -> None:
    dense = CellConfig()
    open_, given = (CellConfig(prune_rate=0.5, pruner=rigl(), fc_prune_rate=rate) for rate in (None, 0.9))
    assert difference(open_, given) == {"fc_prune_rate": ("null", 0.9)}
    changed = difference(dense, open_)
    assert changed["fc_prune_rate"] == (None, "null")
    assert changed["scope"] == (None, "all")
    assert changed["pruner.name"] == ("none", "rigl")
    coreset = CellConfig(coreset_ratio=0.1, selector=el2n())
    assert difference(dense, coreset)["select_every"] == (None, 20)


def test_the_baselines_of_a_large_grid_are_added_once_per_seed() -> None:
    spec = load(GRIDS / "quickstart.yaml", [f"axes.seed={list(range(125))}"])
    assert len(expand(spec).cells) == 125 * 65


def test_common_is_what_all_cells_say_where_it_acts() -> None:
    found, _ = common_and_varied(cell.config for cell in expand(parse(GRID)).cells)
    assert found["epochs"] == 12
    assert found["pruner.update_every"] == "per_interval: 5"
    assert found["select_every"] == 3
    assert not {"seed", "prune_rate", "coreset_ratio"} & set(found)


def test_varied_is_what_cells_differ_in_where_it_acts_and_nothing_that_they_share() -> None:
    common, found = common_and_varied(cell.config for cell in expand(load(GRIDS / "quickstart.yaml")).cells)
    assert found["coreset_ratio"][0] == 1.0
    assert sorted(found["seed"]) == [0, 1, 2]
    assert found["selector.balanced"] == [False, True]
    assert found.keys().isdisjoint(common)
    assert all(len(values) > 1 for values in found.values())


def test_a_label_tells_what_varies_in_the_sweep_and_nothing_that_all_cells_share() -> None:
    cells = expand(load(GRIDS / "quickstart.yaml")).cells
    told = labels(cells)
    joints = [cell for cell in cells if joint(cell.config) and cell.config.seed == 0]
    at = {told[cell.cell_id] for cell in joints if (cell.config.prune_rate, cell.config.coreset_ratio) == (0.9, 0.1)}
    assert at == {
        f"p 0.9 α 0.1 rigl el2n (balanced {balanced}){preserved} seed 0"
        for balanced in (False, True)
        for preserved in ("", " complete")
    }
    assert len(set(told.values())) == len(cells)


def test_a_label_tells_any_other_field_that_varies() -> None:
    cells = [CellConfig(lr=lr) for lr in (0.05, 0.1)]
    assert list(labels(expand(spec_of(cells)).cells).values()) == ["p 0 α 1 lr 0.05 seed 0", "p 0 α 1 lr 0.1 seed 0"]


def test_a_label_leaves_out_what_a_cell_leaves_open() -> None:
    """A prune-only cell without a warm-up, whose pruner starts by it, beside cells that give one; a method's field."""
    cells = [CellConfig(pruner=gmp(), prune_rate=0.5, warmup_epochs=given) for given in (None, 3)]
    assert list(labels(expand(spec_of(cells, baselines=False)).cells).values()) == [
        "p 0.5 α 1 gmp seed 0",
        "p 0.5 α 1 gmp warmup_epochs 3 seed 0",
    ]
    starts = [CellConfig(pruner=gmp(start=start), prune_rate=0.5) for start in (None, 0.25)]
    assert list(labels(expand(spec_of(starts, baselines=False)).cells).values()) == [
        "p 0.5 α 1 gmp seed 0",
        "p 0.5 α 1 gmp (start 0.25) seed 0",
    ]


def test_a_label_without_a_sweep_tells_what_methods_have_that_is_no_default() -> None:
    cell = CellConfig(prune_rate=0.5, coreset_ratio=0.1, pruner=rigl(), selector=el2n(balanced=True), lr=0.3, seed=4)
    assert label(cell) == "p 0.5 α 0.1 rigl el2n (balanced True) seed 4"
