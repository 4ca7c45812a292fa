"""Processes that are killed, interrupted, or started twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from orchestration.searcher import why
from orchestration.sweep import Sweep
from orchestration.tables import write_tables
from tests.faults.cluster import Cluster
from tests.faults.machine import Command, Faults, assert_same_results, sweep_of
from tests.orchestration.grids import run

Start = Callable[..., Command]


def test_a_lost_worker_is_told_with_what_ray_knows() -> None:
    began = RayTaskError("__init__", "ray::A.__init__() (pid=7)\nModuleNotFoundError: No module named 's3fs'", "cause")
    assert why(str(ActorDiedError(began))) == "the worker could not begin: ModuleNotFoundError: No module named 's3fs'"
    assert why(str(ActorDiedError())) == why("") == "the worker process died"
    short = "Task was killed due to the node running low on memory.\nMemory on the node was 0.95"
    short += "\nTop 10 memory users:\nPID\tMEM(GB)\tCOMMAND\n5123\t0.02\tray::CellTrainable.step"
    assert why(str(OutOfMemoryError(short))) == "Ray ended the worker: its node ran low on memory"


LATE = """
name: late
cell:
  data: {name: synthetic, samples: 160, test_samples: 40, classes: 4, size: 8}
  model: {name: small_cnn, width: 4}
  epochs: 6
  select_every: 2
  warmup_epochs: 1
  batch_size: 32
  coreset_ratio: 0.25
  pruner: {name: gmp, start: 0.5, update_every: 2}
axes:
  prune_rate: [0.5, 0.8]
  selector: [el2n, gradmatch]
baselines: false
checkpoint_seconds: 0
"""
"""The cells of one selector part after their first selection: one waits for the other's."""


def test_a_worker_killed_in_the_middle_of_an_epoch(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold")
    command = swast("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    command.wait_until(lambda: faults.hit("hold"))
    os.kill(faults.hit("hold")[0], signal.SIGKILL)
    ended = command.end()
    assert (ended.code, ended.said.count("the worker process died")) == (0, 1), ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_a_node_killed_in_the_middle_of_an_epoch(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold", times=2)
    command = swast("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    command.wait_until(lambda: len(faults.hit("hold")) == 2)
    cluster.kill_node_of(faults.hit("hold")[0])
    faults.release()
    ended = command.end()
    assert ended.code == 0, ended.said
    assert "the worker process died" in ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_the_driver_killed_and_the_same_command_at_once(
    swast: Start, faults: Faults, cluster: Cluster, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold")
    arguments = ("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", "none")
    killed, sweep = swast(*arguments), sweep_of(grid, tmp_path)
    killed.wait_until(lambda: faults.hit("hold") and len(sweep.to_do()) < len(sweep.cells.cells))
    killed.kill()
    ended = swast(*arguments).end()
    assert ended.code == 0, ended.said
    assert "0 finished already" not in ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_an_idle_worker_killed_while_the_others_wait_for_a_trunk(
    swast: Start, faults: Faults, cluster: Cluster, tmp_path: Path
) -> None:
    grid = tmp_path / "late.yaml"
    grid.write_text(LATE)
    sweep = sweep_of(grid, tmp_path / "disturbed")
    faults.cause("hold")
    arguments = ("run", grid, "--output", tmp_path / "disturbed", "--tracking-uri", "none")
    command = swast(*arguments, "--address", cluster.address)
    command.wait_until(lambda: len(sweep.to_do()) == 2)
    command.wait_until(lambda: len(cluster.workers) == 2)
    for pid in cluster.workers - set(faults.hit("hold")):
        os.kill(pid, signal.SIGKILL)
    faults.release()
    ended = command.end()
    assert (ended.code, ended.said.count("the worker process died")) == (0, 1), ended.said
    alone = run(sweep_of(grid, tmp_path / "undisturbed"))
    write_tables(alone)
    assert_same_results(sweep_of(grid, tmp_path / "disturbed"), alone)


def test_ctrl_c_in_the_middle_of_an_epoch_and_the_same_command(
    swast: Start, faults: Faults, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold")
    arguments = ("run", grid, "--output", tmp_path, "--tracking-uri", "none")
    command = swast(*arguments)
    command.wait_until(lambda: faults.hit("hold"))
    command.interrupt()
    ended = command.end()
    assert ended.code == 130, ended.said
    assert "nothing is lost. To go on: swast run" in ended.said
    assert (tmp_path / "tiny" / "runs.parquet").is_file()

    ended = swast(*arguments).end()
    assert ended.code == 0, ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)


def test_two_runs_of_one_sweep_at_once(
    swast: Start, faults: Faults, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    faults.cause("hold")
    arguments = ("run", grid, "--output", tmp_path, "--inline")
    first = swast(*arguments)
    first.wait_until(lambda: faults.hit("hold"))
    second = swast(*arguments).end()
    assert second.code == 2, second.said
    assert f"is in use by process {first.process.pid} on {os.uname().nodename}; wait for it or stop it" in second.said
    faults.release()
    assert first.end().code == 0, first.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)
