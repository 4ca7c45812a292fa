"""Disks that are full, read-only, or have lost bits; and a store that two sweeps share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration import keeping
from orchestration.runner import Progress, run_cell
from orchestration.sweep import Sweep, prepare
from orchestration.tables import write_tables
from sweeps.cells import Cell
from sweeps.spec import parse
from tests.faults.cluster import Cluster
from tests.faults.disk import mounted
from tests.faults.machine import Command, Faults, assert_same_results, reasons, sweep_of
from tests.orchestration.grids import TINY, run

Start = Callable[..., Command]
FULL = "No space left on device; make room, then give the same command again"


def test_a_full_disk(swast: Start, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep) -> None:
    arguments = ("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    with mounted(tmp_path / "disk", "400k") as disk:
        arguments = (*arguments, "--store", disk.folder)
        ended = swast(*arguments).end()
        assert ended.code == 1, ended.said
        failed = reasons(sweep_of(grid, tmp_path, disk.folder))
        assert 0 < len(failed) < len(undisturbed.cells.cells)
        assert {reason.rpartition(": ")[2] for reason in failed.values()} == {FULL}
        assert ended.said.count("No space left on device") >= len(failed)

        disk.remount("size=50m")
        ended = swast(*arguments).end()
        assert ended.code == 0, ended.said
        assert_same_results(sweep_of(grid, tmp_path, disk.folder), undisturbed)


def test_an_output_folder_on_a_full_disk_is_one_sentence(swast: Start, grid: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "8k") as disk:
        (disk.folder / "full").write_bytes(bytes(8192))
        ended = swast("run", grid, "--output", disk.folder, "--inline").end()
        assert ended.code == 2, ended.said
        assert ended.said.startswith("swast: cannot write")
        assert ended.said.endswith(f": {FULL}")


def test_a_disk_that_turns_read_only(
    swast: Start, faults: Faults, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    with mounted(tmp_path / "disk", "50m") as disk:
        arguments = ("run", grid, "--output", tmp_path, "--inline", "--store", disk.folder)
        faults.cause("hold")
        command = swast(*arguments)
        command.wait_until(lambda: faults.hit("hold"))
        disk.remount("ro")
        faults.release()
        ended = command.end()
        assert ended.code == 1, ended.said
        failed = reasons(sweep_of(grid, tmp_path, disk.folder))
        assert len(failed) == len(sweep_of(grid, tmp_path, disk.folder).to_do())
        assert {reason.rpartition(": ")[2] for reason in failed.values()} == {"Read-only file system"}

        ended = swast(*arguments).end()
        assert ended.code == 2, ended.said
        assert ended.said.endswith("Read-only file system")

        disk.remount("rw")
        ended = swast(*arguments).end()
        assert ended.code == 0, ended.said
        assert_same_results(sweep_of(grid, tmp_path, disk.folder), undisturbed)


def damage(number: int, path: Path) -> None:
    """Cut off half of every third file, and flip a bit in every other third."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes((content[: len(content) // 2], content, path.read_bytes())[number % 3])


def test_truncated_and_flipped_checkpoints_of_a_run_that_was_killed(
    swast: Start, faults: Faults, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    arguments = ("run", grid, "--output", tmp_path, "--inline")
    faults.cause("hold", after=7)
    command = swast(*arguments)
    command.wait_until(lambda: faults.hit("hold"))
    command.kill()
    sweep = sweep_of(grid, tmp_path)
    done = {cell.cell_id for cell in sweep.cells.cells} - {cell.cell_id for cell in sweep.to_do()}
    assert done
    last = {sweep.chains[cell_id][-1].stage for cell_id in done}
    stored = sorted(path for path in sweep.folder.glob("store/segments/*/*/*") if path.parent.name not in last)
    for number, path in enumerate(stored):
        damage(number, path)
    ended = swast(*arguments).end()
    assert ended.code == 0, ended.said
    assert "damaged checkpoint set aside as" in ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_a_damaged_checkpoint_of_a_finished_cell_is_found_by_verify(
    tmp_path: Path, grid: Path, undisturbed: Sweep
) -> None:
    sweep = run(sweep_of(grid, tmp_path))
    for number, path in enumerate(sorted(sweep.folder.glob("store/segments/*/*/00006.state"))):
        damage(number, path)
    assert keeping.damaged(sweep.store)
    run(sweep_of(grid, tmp_path))
    write_tables(sweep)
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


@pytest.mark.parametrize("ahead", ["passer-by", "other"])
def test_a_sweep_that_passes_by_leaves_the_states_that_another_needs(tmp_path: Path, ahead: str) -> None:
    """Both train the dense cell; in the other sweep the coreset-only cell parts from it after epoch 3."""
    passer_by = prepare(parse(TINY, overrides=["axes.prune_rate=[0]"]), tmp_path, store=tmp_path / "store")
    overrides = ["axes.prune_rate=[0]", "cell.warmup_epochs=3", "name=other"]
    other = prepare(parse(TINY, overrides=overrides), tmp_path, store=tmp_path / "store")
    cell = next(cell for cell in other.cells.cells if cell.config.coreset_ratio == 1)
    ends = [[s.last for s in sweep.chains[cell.cell_id]] for sweep in (passer_by, other)]
    assert ends == [[1, 6], [3, 6]]

    workers = [steps(sweep, cell) for sweep in (passer_by, other)]
    first, second = workers if ahead == "passer-by" else workers[::-1]
    for worker in (first, second):
        while next(worker).row["epoch"] < 3:
            pass
    for worker in (second, first):
        list(worker)
    assert other.history(cell) is not None
    assert passer_by.history(cell) is not None
    run(other)
    assert other.to_do() == ()


def steps(sweep: Sweep, cell: Cell) -> Iterator[Progress]:
    chain, bundle = sweep.chains[cell.cell_id], sweep.bundle(cell.config)
    return run_cell(cell.config, chain, bundle, sweep.store, checkpoint_seconds=0)
