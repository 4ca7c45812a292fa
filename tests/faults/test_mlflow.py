"""The tracking server goes away in the middle of a sweep, and at its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestration.sweep import Sweep
from tests.faults.cluster import Cluster
from tests.faults.machine import Command, Faults, assert_same_results, sweep_of, wait_until
from tests.faults.mlflow_runs import assert_every_point_once

AWAY_SECONDS = 20.0

Start = Callable[..., Command]


class Server:
    """An MLflow server on a database in ``folder``, at a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.client = MlflowClient(f"sqlite:///{folder}/server.db")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database = f"sqlite:///{self._folder}/server.db"
        options = ["--backend-store-uri", database, "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self._folder / "server.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def finished(self) -> int:
        """Cells whose runs are complete."""
        found = self.client.search_experiments(filter_string="name = 'tiny'")
        runs = self.client.search_runs([found[0].experiment_id]) if found else []
        return sum(run.info.status == "FINISHED" for run in runs)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_the_server_away_in_the_middle_and_at_the_end(
    swast: Start, faults: Faults, cluster: Cluster, server: Server, grid: Path, tmp_path: Path, undisturbed: Sweep
) -> None:
    arguments = ("run", grid, "--output", tmp_path, "--address", cluster.address, "--tracking-uri", server.uri)
    wait_until(server.answers)
    faults.cause("hold")
    command = swast(*arguments)
    command.wait_until(lambda: faults.hit("hold") and server.finished())
    server.kill()
    time.sleep(AWAY_SECONDS)
    server.start()
    faults.cause("hold")
    faults.release()
    command.wait_until(lambda: faults.hit("hold") and server.finished() == len(undisturbed.cells.cells) - 1)
    server.kill()
    faults.release()
    ended = command.end()
    assert ended.code == 0, ended.said
    assert "Nothing is lost: run the same command again" in ended.said
    assert_same_results(sweep_of(grid, tmp_path), undisturbed)

    server.start()
    wait_until(server.answers)
    ended = swast(*arguments).end()
    assert ended.code == 0, ended.said
    assert "0 to do" in ended.said
    assert_every_point_once(server.client, sweep_of(grid, tmp_path))
