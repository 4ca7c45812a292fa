"""One cluster for all faults of a test process, and one undisturbed run of the grid that they disturb."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.sweep import Sweep
from orchestration.tables import write_tables
from tests.faults.cluster import Cluster
from tests.faults.machine import Command, Faults, sweep_of
from tests.orchestration.grids import TINY, run


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def undisturbed(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = run(sweep_of(grid, tmp_path_factory.mktemp("undisturbed")))
    write_tables(sweep)
    return sweep


@pytest.fixture(scope="session")
def _faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(_faults: Faults) -> Iterator[Faults]:
    _faults.clear()
    yield _faults
    _faults.clear()


@pytest.fixture
def swast(faults: Faults, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts ``swast`` with the faults; what still runs at the end of the test is killed."""
    started: list[Command] = []

    def start(*arguments: str | Path) -> Command:
        log = tmp_path / f"command-{len(started)}.txt"
        started.append(Command(*arguments, log=log, environment=faults.environment()))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.kill()


@pytest.fixture(scope="session")
def _cluster(_faults: Faults) -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # the paths of Ray's sockets may have 107 characters
    cluster = Cluster(folder, free_port(), _faults.environment())
    yield cluster
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """The cluster with both its nodes."""
    _cluster.complete()
    return _cluster
