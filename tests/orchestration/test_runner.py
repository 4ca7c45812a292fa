from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.data.load import load_bundle
from core.state import dump, load
from core.trainer import Trainer
from orchestration.history import history_row
from orchestration.past import finished_rows, resume_point, rows_so_far
from orchestration.runner import run_cell
from orchestration.sweep import Sweep
from orchestration.tables import tables
from sweeps.cells import Cell, joint
from tests.orchestration.grids import TINY, final_state, run, tiny


def joint_cell(sweep: Sweep) -> Cell:
    return next(cell for cell in sweep.cells.cells if joint(cell.config))


def steps(sweep: Sweep, cell: Cell, checkpoint_seconds: float = 0.0) -> list[object]:
    chain, bundle = sweep.chains[cell.cell_id], sweep.bundle(cell.config)
    return list(run_cell(cell.config, chain, bundle, sweep.store, checkpoint_seconds=checkpoint_seconds))


def test_a_cell_along_its_chain_equals_the_cell_in_one_go(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    assert [(s.first, s.last) for s in sweep.chains[cell.cell_id]] == [(1, 1), (2, 6)]
    assert len(steps(sweep, cell)) == 6
    alone = Trainer(cell.config, load_bundle(cell.config.data))
    list(alone.events())
    assert final_state(sweep, cell) == dump(alone.state())


def test_a_finished_cell_is_not_trained_again(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    steps(sweep, cell)
    assert steps(sweep, cell) == []


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_an_interrupted_cell_goes_on_bit_identically(tmp_path: Path, epochs: int) -> None:
    undisturbed, disturbed = tiny(tmp_path / "a"), tiny(tmp_path / "b")
    cell = joint_cell(disturbed)
    steps(undisturbed, cell)
    chain = disturbed.chains[cell.cell_id]
    iterator = run_cell(cell.config, chain, disturbed.bundle(cell.config), disturbed.store, checkpoint_seconds=0)
    for _ in range(epochs):
        next(iterator)
    iterator.close()
    assert len(rows_so_far(chain, disturbed.store)) == epochs
    assert finished_rows(chain, disturbed.store) is None
    assert len(steps(disturbed, cell)) == 6 - epochs
    assert final_state(disturbed, cell) == final_state(undisturbed, cell)


def test_a_cell_goes_on_from_the_trunk_of_another(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    first, second = [cell for cell in sweep.cells.cells if joint(cell.config) and cell.config.seed == 0]
    steps(sweep, first)
    found = resume_point(sweep.chains[second.cell_id], sweep.store)
    assert found is not None
    assert found[0].epoch == 1
    assert len(steps(sweep, second)) == 5
    rows, diverged = sweep.history(second) or ([], True)
    assert ([row["epoch"] for row in rows], diverged) == ([1, 2, 3, 4, 5, 6], False)


def test_where_another_worker_stored_other_bits_a_cell_goes_on_from_those(tmp_path: Path) -> None:
    """As two commands on GPUs over one store do: no run's history has a seam of two trainings."""
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    chain, bundle = sweep.chains[cell.cell_id], sweep.bundle(cell.config)
    other = Trainer(replace(cell.config, seed=cell.config.seed + 1), bundle)
    theirs = [history_row(list(other.events(until=epoch))) for epoch in (1, 2, 3)]
    state = dump(other.state())
    iterator = run_cell(cell.config, chain, bundle, sweep.store, checkpoint_seconds=0)
    assert [next(iterator).row["epoch"] for _ in range(2)] == [1, 2]
    sweep.store.put(chain[-1].stage, theirs[1:], state)
    list(iterator)
    rows, _ = finished_rows(chain, sweep.store) or ([], True)
    assert rows[1:3] == theirs[1:]
    expected = Trainer(cell.config, bundle)
    expected.restore(load(state))
    list(expected.events())
    assert final_state(sweep, cell) == dump(expected.state())


def test_checkpoints_are_rare_unless_due(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    stored = [step.row["epoch"] for step in run_cell_of(sweep) if step.stored]
    assert stored == [1, 6]


def run_cell_of(sweep: Sweep) -> list:
    return steps(sweep, joint_cell(sweep), checkpoint_seconds=3600)


def test_a_damaged_checkpoint_costs_its_epochs_and_nothing_else(tmp_path: Path) -> None:
    undisturbed, disturbed = tiny(tmp_path / "a"), tiny(tmp_path / "b")
    cell = joint_cell(undisturbed)
    steps(undisturbed, cell)
    chain = disturbed.chains[cell.cell_id]
    iterator = run_cell(cell.config, chain, disturbed.bundle(cell.config), disturbed.store, checkpoint_seconds=0)
    for _ in range(4):
        next(iterator)
    newest = max(disturbed.folder.rglob("*.state"), key=lambda path: path.stem)
    newest.write_bytes(newest.read_bytes()[:-1])
    assert len(steps(disturbed, cell)) >= 3
    assert final_state(disturbed, cell) == final_state(undisturbed, cell)


def test_a_damaged_trunk_of_a_finished_cell_is_trained_again(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    steps(sweep, cell)
    before = final_state(sweep, cell)
    trunk = sweep.chains[cell.cell_id][0].stage
    for path in sweep.folder.rglob(f"{trunk}/*.json"):
        path.write_bytes(path.read_bytes()[:-20])
    assert sweep.history(cell) is None
    assert len(steps(sweep, cell)) == 6
    assert sweep.history(cell) is not None
    assert final_state(sweep, cell) == before


def test_a_finished_cell_stays_finished_when_a_larger_grid_cuts_it(tmp_path: Path) -> None:
    alone = tiny(tmp_path, TINY, "axes.coreset_ratio=[1]", "axes.selector=[el2n]")
    run(alone)
    before = {cell.cell_id: alone.history(cell) for cell in alone.cells.cells}
    larger = tiny(tmp_path)
    pruned = [cell for cell in larger.cells.cells if cell.cell_id in before]
    assert {len(larger.chains[cell.cell_id]) for cell in pruned} == {2}
    assert {cell.cell_id: larger.history(cell) for cell in pruned} == before
    run(larger)
    assert tables(larger)[0].set_index("cell_id").loc[sorted(before), "epochs"].eq(6).all()


def test_closing_between_two_epochs_loses_none(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    iterator = run_cell(
        cell.config, sweep.chains[cell.cell_id], sweep.bundle(cell.config), sweep.store, checkpoint_seconds=3600
    )
    for _ in range(3):
        next(iterator)
    iterator.close()
    assert [step.row["epoch"] for step in steps(sweep, cell)] == [4, 5, 6]


def test_closing_where_the_store_is_lost_costs_epochs_and_nothing_else(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    cell = joint_cell(sweep)
    iterator = run_cell(
        cell.config, sweep.chains[cell.cell_id], sweep.bundle(cell.config), sweep.store, checkpoint_seconds=3600
    )
    for _ in range(3):
        next(iterator)
    (sweep.folder / "store").rename(tmp_path / "store")
    (sweep.folder / "store").write_text("in the way")
    iterator.close()
    (sweep.folder / "store").unlink()
    (tmp_path / "store").rename(sweep.folder / "store")
    assert [step.row["epoch"] for step in steps(sweep, cell)] == [2, 3, 4, 5, 6]
