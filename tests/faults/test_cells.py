"""Cells that raise, diverge or never end; and a clock that is set back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

from orchestration.sweep import Sweep
from tests.faults.cluster import Cluster
from tests.faults.machine import Command, Faults, assert_same_results, reasons, sweep_of
from tests.faults.mlflow_runs import assert_every_point_once
from tests.orchestration.grids import BROKEN, timeless

Start = Callable[..., Command]
COLUMNS = ["cell_id", "status", "accuracy_test", "accuracy_val", "accuracy_worst_class", "loss_test", "flops_sparse"]


def test_a_cell_that_raises(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("raise")
    arguments = ("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    ended = swast(*arguments).end()
    assert ended.code == 1, ended.said
    sweep = sweep_of(grid, tmp_path)
    assert len(sweep.to_do()) == 1
    assert reasons(sweep) == {sweep.to_do()[0].cell_id: "RuntimeError: caused by a test"}
    assert "RuntimeError: caused by a test" in ended.said

    ended = swast(*arguments).end()
    assert ended.code == 0, ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_cells_whose_loss_is_not_a_number(swast: Start, cluster: Cluster, tmp_path: Path, undisturbed: Sweep) -> None:
    grid = tmp_path / "broken.yaml"
    grid.write_text(BROKEN)
    command = swast("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    ended = command.end()
    assert ended.code == 0, ended.said
    assert "Runs diverged: 12, counted as finished at chance" in ended.said
    sweep = sweep_of(grid, tmp_path)
    assert sweep.to_do() == ()
    runs, healthy = (pd.read_parquet(which.folder / "runs.parquet") for which in (sweep, undisturbed))
    diverged = runs["reason"] == "diverged"
    assert (diverged == (runs["lr"] == 1e12)).all()
    assert (runs.loc[diverged, "accuracy_test"] == 0.25).all()
    ours, theirs = (timeless(frame)[COLUMNS].reset_index(drop=True) for frame in (runs[~diverged], healthy))
    pd.testing.assert_frame_equal(ours, theirs)


def test_epochs_that_hang_in_python_and_in_c(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("sleep")
    faults.cause("spin")
    arguments = ("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    ended = swast(*arguments, "--set", "epoch_timeout=6").end()
    assert ended.code == 0, ended.said
    assert "no epoch ended within 6 s (epoch_timeout)" in ended.said
    assert "the worker process died" in ended.said
    assert len({*faults.hit("sleep"), *faults.hit("spin")}) == 2
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_a_clock_that_goes_backwards(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold")
    command = swast("run", grid, "--output", tmp_path, "--address", cluster.address)
    command.wait_until(lambda: faults.hit("hold"))
    faults.turn_clock()
    faults.release()
    ended = command.end()
    assert ended.code == 0, ended.said
    sweep = sweep_of(grid, tmp_path)
    rows = [row for cell in sweep.cells.cells for row in (sweep.history(cell) or ([], False))[0]]
    assert any(after["epoch"] > row["epoch"] and after["time"] < row["time"] for row, after in pairwise(rows))
    assert_same_results(sweep, undisturbed)
    assert_every_point_once(MlflowClient(f"sqlite:///{sweep.folder}/mlflow.db"), sweep)
