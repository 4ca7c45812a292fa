"""What a correct grid file says."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import CellConfig
from core.coresets import SELECTORS
from core.data import SOURCES
from core.pruning import PRUNERS
from sweeps.document import read, write
from sweeps.policy import Resources
from sweeps.spec import load, parse
from tests.sweeps.grid import GRID, GRIDS

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_cells_come_in_grid_order_the_last_axis_fastest() -> None:
    listed = parse(GRID).listed
    assert [(c.prune_rate, c.coreset_ratio, c.seed) for c in listed] == [
        (p, a, s) for p in (0.0, 0.5) for a in (1.0, 0.1) for s in (0, 1)
    ]
    assert listed[7] == CellConfig(
        epochs=12,
        select_every=3,
        warmup_epochs=2,
        pruner=PRUNERS["rigl"](update_every={"per_interval": 5}),
        selector=SELECTORS["el2n"](),
        prune_rate=0.5,
        coreset_ratio=0.1,
        seed=1,
    )


def test_cells_are_crossed_with_the_axes_and_win_over_the_base() -> None:
    spec = parse(GRID.replace("axes:", "cells:\n- {lr: 0.1}\n- {lr: 0.2, selector: random}\naxes:"))
    assert [(c.lr, c.selector.name, c.seed) for c in spec.listed][::4] == [
        (0.1, "el2n", 0),
        (0.1, "el2n", 0),
        (0.2, "random", 0),
        (0.2, "random", 0),
    ]
    assert len(spec.listed) == 16


def test_an_axis_may_vary_a_part_of_a_plug_in() -> None:
    spec = parse(GRID, overrides=["axes.pruner.stop=[0.5, 1]", "axes.data.label_noise=[0.1]", "axes.seed=[0]"])
    assert {(c.pruner.stop, c.data.label_noise) for c in spec.listed} == {(0.5, 0.1), (1.0, 0.1)}
    assert spec.axes == ("prune_rate", "coreset_ratio", "seed", "pruner.stop", "data.label_noise")


def test_without_axes_there_is_one_cell() -> None:
    assert parse("cell: {epochs: 3}").listed == (CellConfig(epochs=3),)
    assert parse("name: x").listed == (CellConfig(),)


def test_sections_and_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GRID)
    spec = load(tmp_path / "mine.yaml")
    assert (spec.name, spec.baselines, spec.resources, spec.checkpoint_seconds) == ("mine", True, Resources(), 30.0)
    told = ["name=yours", "baselines=false", "resources.cpus=2", "resources.gpus=0.5", "checkpoint_seconds=1e1"]
    spec = load(tmp_path / "mine.yaml", told)
    assert (spec.name, spec.baselines, spec.checkpoint_seconds) == ("yours", False, 10.0)
    assert spec.resources == Resources(cpus=2.0, gpus=0.5)


@pytest.mark.parametrize(
    "override", ["data.root=/x", "cell.data.root=/x", "data={name: cifar10, download: true, root: /x}"]
)
def test_an_override_of_the_cell(override: str) -> None:
    spec = parse("cell:\n  data: {name: cifar10, download: true}", overrides=[override])
    assert spec.listed[0].data == SOURCES["cifar10"](download=True, root="/x")


def test_overrides_apply_in_order() -> None:
    spec = parse(GRID, overrides=["axes.seed=[7]", "epochs=20", "epochs=30", "pruner.update_every=9"])
    assert {(c.seed, c.epochs, c.pruner.update_every) for c in spec.listed} == {(7, 30, 9)}


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 1e-3), ("1E2", 100.0), (".5", 0.5), ("5.", 5.0), ("+1", 1.0), ("010", 10.0), ("1.5e+1", 15.0)],
)
def test_numbers_as_people_write_them(written: str, value: float) -> None:
    assert parse(f"cell: {{lr: {written}}}").listed[0].lr == value


@pytest.mark.parametrize("written", ["on", "off", "yes", "no", "y", "1_000", "1:30", "0x1f", "2020-01-01", "'1'"])
def test_what_is_neither_number_nor_flag_stays_text(written: str) -> None:
    assert parse(f"cell: {{data: {{name: parquet, root: {written}, subset: 1}}}}", overrides=["data=digits"]).listed
    assert read(f"a: {written}", "f").data == {"a": written.strip("'")}


@pytest.mark.parametrize("overrides", [(), ("axes.pruner.stop=[0.5, 1]", "data.subset=900", "name=1e3x", "lr=1e-5")])
def test_the_resolved_text_gives_the_same_specification(overrides: tuple[str, ...]) -> None:
    spec = parse(GRID, overrides=overrides)
    assert parse(spec.text) == spec


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_written_is_read_back(data: dict[str, object]) -> None:
    def same(a: object, b: object) -> bool:
        return type(a) is type(b) and a == b

    back = read(write(data), "f").data
    assert back == data
    assert all(same(back[key], data[key]) for key in data)


def test_infinity_survives_too() -> None:
    assert read(write({"a": math.inf, "b": -math.inf}), "f").data == {"a": math.inf, "b": -math.inf}


def test_planning_needs_no_heavy_library() -> None:
    code = (
        "import sys, sweeps.cells, sweeps.plan, sweeps.spec, sweeps.stages\n"
        "spec = sweeps.spec.load(sys.argv[1])\nsweeps.stages.chain(sweeps.cells.expand(spec).cells[0].config, {})\n"
        "heavy = {'torch', 'torchvision', 'ray', 'mlflow', 'optuna', 'pandas', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, GRIDS / "quickstart.yaml"], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
