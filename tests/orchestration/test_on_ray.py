"""The command itself on Ray and MLflow."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.orchestration.grids import TINY

PATIENCE = 240
LONG = """
cell:
  data: {name: synthetic, samples: 160, test_samples: 40, classes: 4, size: 8}
  model: {name: small_cnn, width: 4}
  epochs: 100000
  batch_size: 8
axes:
  seed: [0, 1]
checkpoint_seconds: 2
"""


def swast(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from orchestration.cli import main; main()", *map(str, arguments)]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(swast(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("epochs: 6", "epochs: 60"))
    return path


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_mlflow_is_laid_out_as_a_person_browses_it_and_never_doubled(grid: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    output = tmp_path / "out"
    first = call("run", grid, "--output", output, "--set", "cell.epochs=6")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "report.html" in first.stdout
    again = call("run", grid, "--output", output, "--set", "cell.epochs=6")
    assert again.returncode == 0
    assert "12 finished already, 0 to do" in " ".join(again.stdout.split())

    client = MlflowClient(f"sqlite:///{output}/tiny/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if run.data.tags.get("role") == "sweep"]
    children = [run for run in runs if "cell_id" in run.data.tags]
    assert (len(parents), len(children)) == (1, 12)
    assert len({run.data.tags["cell_id"] for run in children}) == 12
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    artifacts = {file.path for file in client.list_artifacts(parents[0].info.run_id)}
    assert {"report.html", "figures", "runs.parquet", "history.parquet", "sweep.yaml", "plan.json"} <= artifacts
    assert parents[0].data.metrics["cells_finished"] == 12

    table = pd.read_parquet(output / "tiny" / "runs.parquet").set_index("cell_id")
    history = pd.read_parquet(output / "tiny" / "history.parquet")
    for run in children:
        cell_id = run.data.tags["cell_id"]
        rows = history[history["cell_id"] == cell_id]
        points = client.get_metric_history(run.info.run_id, "accuracy/test")
        assert [(p.step, p.value) for p in points] == list(zip(rows["epoch"], rows["accuracy_test"], strict=True))
        assert run.data.metrics["flops/relative"] == pytest.approx(table.loc[cell_id, "flops_relative"])
        assert run.data.params["pruner.name"] == table.loc[cell_id, "pruner"]
        assert run.inputs.dataset_inputs[0].dataset.name == "synthetic"


@pytest.fixture
def short_path() -> Iterator[str]:
    """A folder for Ray, whose sockets' paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as path:
        yield path


def test_a_named_cluster_runs_the_cells(
    grid: Path, tmp_path: Path, short_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = Path(sys.executable).with_name("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    address = "127.0.0.2"  # Ray takes 127.0.0.1 for the address of the outer interface
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    head = [ray, "start", "--head", "--block", "--port", str(port), "--num-cpus", "2", "--include-dashboard=false"]
    cluster = subprocess.Popen(
        [*head, f"--node-ip-address={address}", f"--temp-dir={short_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(address, port), cluster)
        command = ["run", grid, "--output", tmp_path / "out", "--tracking-uri", "none", "--set", "cell.epochs=6"]
        with monkeypatch.context() as here:  # a driver with another torch, by what its installation says
            other = tmp_path / "other" / "torch-0.1.dist-info" / "METADATA"
            other.parent.mkdir(parents=True)
            other.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
            here.setenv("PYTHONPATH", str(tmp_path / "other"))
            refused = call(*command, "--address", f"{address}:{port}")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "this command has torch 0.1 and nodes have " in refused.stderr
        assert not (tmp_path / "out").exists()
        done = call(*command, "--address", f"{address}:{port}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "12 of 12 cells done" in done.stdout
    finally:
        cluster.terminate()
        cluster.wait(timeout=60)


def test_an_address_where_nobody_answers_is_one_sentence(grid: Path, tmp_path: Path) -> None:
    done = call("run", grid, "--output", tmp_path, "--address", "127.0.0.1:1", "--tracking-uri", "none")
    assert done.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:1 (Connection refused)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_ray_cannot_start_a_finished_sweep_is_drawn_anew_all_the_same(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose sockets have names of more than 107 characters."""
    far = tmp_path / ("x" * 120)
    far.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(far))
    command = ("run", grid, "--output", tmp_path / "out", "--tracking-uri", "none", "--set", "cell.epochs=6")
    refused = call(*command)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.startswith("swast: cannot start a local Ray: ")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert call(*command, "--inline").returncode == 0
    again = call(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "12 finished already, 0 to do" in " ".join(again.stdout.split())
    assert "report.html" in again.stdout


def test_a_worker_that_ray_ends_for_memory_is_a_lost_worker_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory monitor, for which any use is too much here, comes by in the middle of the training."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "12000")
    grid, log = tmp_path / "long.yaml", tmp_path / "log"
    grid.write_text(LONG)
    command = swast("run", grid, "--output", tmp_path / "out", "--tracking-uri", "none")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: "low on memory" in " ".join(log.read_text().split()), process)
            time.sleep(2)  # and what ended with the worker ends now
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert "again" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_inline_never_imports_ray_or_mlflow(grid: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from orchestration.cli import app;"
        f"app(['run', {str(grid)!r}, '--inline', '--output', {str(tmp_path)!r}, '--set', 'cell.epochs=6'],"
        " standalone_mode=False);"
        "sys.exit(any(name in sys.modules for name in ('ray', 'mlflow', 'optuna')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


ENDING = """
import gc, sys, threading
from orchestration.launch import _connect, disconnect, load_ray
load_ray(joining=False)
_connect(None)
import ray
from ray._private import worker
gc.disable()
cycle = {"reference": ray.put(0)}
cycle["itself"] = cycle
del cycle

class Ending:
    def __init__(self, known):
        self.known = known
    def __getattr__(self, name):
        return getattr(self.known, name)
    def shutdown_driver(self):
        self.known.shutdown_driver()
        other = threading.Thread(target=gc.collect)
        other.start()
        other.join()

worker.global_worker.core_worker = Ending(worker.global_worker.core_worker)
disconnect() if sys.argv[1] == "ours" else ray.shutdown()
sys.stdout.write("alive")
"""


def test_garbage_that_another_thread_collects_while_ray_ends_does_not_end_us() -> None:
    """What Ray does to a process in which a reference dies meanwhile, and that none is left to die."""

    def ended(how: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-c", ENDING, how], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert ended("ours") == (0, "alive")
    assert ended("ray's own") == (1, "")
