"""The grid files that come with the project."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from core.config import CellConfig, first_selection
from sweeps.cells import expand, joint
from sweeps.plan import make_plan
from sweeps.spec import SpecError, SweepSpec, load
from tests.sweeps.grid import GRIDS

SIZES = {
    "cifar10-cpu": (10_000, 10, 32),
    "paper-tinyimagenet-r101": (100_000, 200, 64),
    "paper-imagenet-subset": (126_689, 100, 224),
}
"""Training images, classes and side of the grids whose data must be at hand."""


def loaded(name: str) -> SweepSpec:
    """The grid, its data set not needed on this machine."""
    if name in SIZES:
        samples, classes, size = SIZES[name]
        fields = f"samples: {samples}, test_samples: 10000, classes: {classes}, channels: 3, size: {size}"
        return load(GRIDS / f"{name}.yaml", [f"data={{name: synthetic, val_fraction: 0, {fields}}}"])
    return load(GRIDS / f"{name}.yaml", ["data.download=true"] if name.startswith(("paper", "ablation")) else [])


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_grid_is_correct(path: Path) -> None:
    spec = loaded(path.stem)
    assert spec.name == path.stem
    plan = make_plan(spec)
    assert plan.warnings == ()
    assert plan.least_updates is not None
    assert plan.least_updates >= 3


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_as_shipped_a_grid_lacks_its_data_at_most(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    on_disk = path.stem in SIZES
    with nullcontext() if not on_disk else pytest.raises(SpecError, match=r"line [3-5]: .* --set data\.root=PATH"):
        load(path)


@pytest.mark.parametrize(
    ("name", "listed", "distinct"),
    [
        ("quickstart", 240, 195),
        ("bench", 120, 105),
        ("collapse-cure", 80, 130),
        ("cifar10-cpu", 27, 33),
        ("frontier", 240, 297),
        ("methods-cpu", 216, 291),
        ("paper-table1-r18", 150, 220),
        ("paper-table1-r101", 150, 220),
        ("paper-tinyimagenet-r101", 50, 90),
        ("paper-imagenet-subset", 50, 90),
        ("paper-noise", 90, 100),
        ("ablation-fc", 125, 260),
    ],
)
def test_how_many_cells(name: str, listed: int, distinct: int) -> None:
    cells = expand(loaded(name))
    assert (cells.listed, len(cells.cells)) == (listed, distinct)


def test_quickstart_is_what_it_is_said_to_be() -> None:
    cell = loaded("quickstart").listed[-1]
    assert (cell.data.name, cell.model.name, cell.epochs, cell.batch_size, cell.lr) == (
        "digits",
        "small_cnn",
        40,
        64,
        0.05,
    )
    assert (cell.warmup_epochs, cell.select_every, first_selection(cell)) == (5, 5, 10)
    assert (cell.prune_rate, cell.coreset_ratio, cell.seed) == (0.95, 0.05, 2)
    assert (cell.scope, cell.fc_prune_rate, cell.preservation.name, cell.preservation_weight) == (
        "all",
        None,
        "complete",
        0.1,
    )


def test_the_frontier_grid_is_searched_with_less_than_a_third_of_its_cells() -> None:
    assert make_plan(loaded("frontier")).budget_cells == 89


def test_the_grid_of_methods_crosses_six_pruners_with_six_selectors() -> None:
    pairs = {(c.pruner.name, c.selector.name, c.prune_rate, c.coreset_ratio) for c in loaded("methods-cpu").listed}
    assert len(pairs) == 6 * 6 * 2


def papers(cell: CellConfig) -> tuple[object, ...]:
    return cell.epochs, cell.batch_size, cell.lr, cell.momentum, cell.nesterov, cell.weight_decay, cell.select_every


@pytest.mark.parametrize("name", ["paper-table1-r18", "paper-table1-r101", "paper-noise", "ablation-fc"])
def test_the_papers_settings(name: str) -> None:
    for cell in expand(loaded(name)).cells:
        config = cell.config
        assert (config.data.name, config.data.val_fraction, config.augmentation) == ("cifar10", 0.0, "crop_flip")
        assert papers(config)[:6] == (300, 128, 0.05, 0.9, True, 5e-4)
        if joint(config):
            assert (config.select_every, first_selection(config), config.pruner.name) == (20, 20, "rigl")


@pytest.mark.parametrize(
    ("name", "expected", "selector"),
    [
        ("paper-tinyimagenet-r101", (300, 256, 0.05, 0.9, True, 5e-4, 20), "moderate"),
        ("paper-imagenet-subset", (90, 512, 0.05, 0.9, True, 5e-4, 5), "el2n"),
    ],
)
def test_the_papers_settings_on_larger_images(name: str, expected: tuple[object, ...], selector: str) -> None:
    cells = [cell.config for cell in expand(loaded(name)).cells if joint(cell.config)]
    assert len(cells) == 50
    for cell in cells:
        assert papers(cell) == expected
        methods = (cell.pruner.name, cell.selector.name, cell.preservation.name, cell.fc_prune_rate)
        assert methods == ("rigl", selector, "complete", 0.9)


def test_table_1_holds_cut_and_trim() -> None:
    joint_cells = [cell.config for cell in expand(loaded("paper-table1-r18")).cells if joint(cell.config)]
    variants = {(cell.scope, cell.fc_prune_rate, cell.preservation.name) for cell in joint_cells}
    assert variants == {("all", 0.9, "complete"), ("classifier", None, "none")}
    assert {cell.selector.name for cell in joint_cells} == {"gradmatch"}
