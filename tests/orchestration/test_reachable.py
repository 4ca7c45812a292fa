"""Servers that are named and do not answer: told in one sentence, at once, and nothing is left behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from orchestration import commands, launch, tracking
from orchestration.commands import Target, _taken
from orchestration.errors import UsageError
from orchestration.launch import ClusterError, check_address
from orchestration.progress import Progress
from orchestration.reachable import refusal
from orchestration.sweep import Sweep
from orchestration.tracking import Tracker, check_server
from sweeps.policy import Need
from tests.orchestration.grids import TINY, run, tiny
from tests.orchestration.test_cli import starts_nothing


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def dead() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_what_listens_is_reached_and_what_does_not_says_why(port: int, dead: int) -> None:
    assert refusal("127.0.0.1", port) == ""
    assert refusal("127.0.0.1", dead) == "Connection refused"
    assert refusal("127.0.0.1", 10**20)
    assert refusal("a" * 64 + ".example", 80)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--tracking-uri", "http://me:pass@127.0.0.1:{}"), "no MLflow server answers at http://127.0.0.1:{} (Conn"),
        (("--tracking-uri", "none", "--address", "127.0.0.1:{}"), "no Ray cluster answers at 127.0.0.1:{} (Connection"),
        (("--tracking-uri", "none", "--address", "ray://127.0.0.1:{}"), "ray://127.0.0.1:{} is Ray Client's, through"),
        (
            ("--tracking-uri", "htp://127.0.0.1"),
            "--tracking-uri htp://127.0.0.1 is no address that MLflow knows; write",
        ),
        (("--tracking-uri", "localhost:5000"), "--tracking-uri localhost:5000 is no address that MLflow knows"),
        (("--inline", "--store", "/proc/nowhere"), "cannot write /proc/nowhere/plans/"),
        (("--tracking-uri", "http://127.0.0.1:port"), "--tracking-uri http://127.0.0.1:port is no address"),
    ],
)
def test_a_dead_server_is_one_sentence_at_once_and_leaves_nothing(
    option: tuple[str, ...],
    said: str,
    dead: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = [part.format(dead) for part in option]
    assert said.format(dead) in starts_nothing(TINY, tmp_path, capsys, monkeypatch, given)


def test_a_server_behind_a_proxy_and_a_database_are_left_to_mlflow(dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_server("sqlite:////nowhere/mlflow.db")
    check_server("mysql+pymysql://me:pass@127.0.0.1/x")
    for folder in ("folder", "file:///folder"):
        with pytest.raises(UsageError, match=r"is a folder, which .*; write sqlite:///+folder/mlflow.db"):
            check_server(folder)
    check_server("databricks")
    with monkeypatch.context() as there:
        there.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        check_server("folder")
    with pytest.raises(UsageError):
        check_server(f"http://127.0.0.1:{dead}")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    check_server(f"http://127.0.0.1:{dead}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UsageError):
        check_server(f"http://127.0.0.1:{dead}")


def test_an_address_without_a_port_is_left_to_ray() -> None:
    check_address("auto")
    with pytest.raises(ClusterError, match="--address head has no port; give HOST:PORT, such as head:6379"):
        check_address("head")


def test_in_this_process_no_server_is_asked(dead: int) -> None:
    Target(address=f"127.0.0.1:{dead}", inline=True, tracking_uri=f"http://127.0.0.1:{dead}").check()


def test_what_ray_refused_later_leaves_nothing_either(tmp_path: Path) -> None:
    """A wrong token, or too few CPUs: the folder goes, unless something was trained or it was there before."""
    fresh, trained, known = (tiny(tmp_path / name) for name in ("fresh", "trained", "known"))
    known.folder.mkdir(parents=True)

    def begin(sweep: Sweep) -> None:
        with _taken(sweep.folder, Target()):
            (sweep.folder / "sweep.yaml").write_text("")
            if sweep is trained:
                run(sweep)
            raise ClusterError("no")

    for sweep in (fresh, trained, known):
        with pytest.raises(ClusterError):
            begin(sweep)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["known", "trained"]
    assert (known.folder / "sweep.yaml").exists()
    assert (trained.folder / "sweep.yaml").exists()


def test_a_tracker_of_a_sweep_that_could_not_begin_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "Sink", lambda *_: SimpleNamespace(finished=frozenset, sweep=None))
    made: list[Tracker] = []
    monkeypatch.setattr(commands, "Tracker", lambda *given: made.append(Tracker(*given)) or made[0])
    with pytest.raises(ClusterError), commands._tracking("sqlite:///x", tiny(tmp_path)):
        raise ClusterError("no")
    assert not made[0]._thread.is_alive()


def test_the_counts_are_not_told_of_what_did_not_begin(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    cells = {cell.cell_id: cell for cell in tiny(tmp_path).cells.cells}

    def fail(*began: str) -> None:
        with Progress(cells, 1.0, 0, console) as progress:
            for cell_id in began:
                progress.started(cell_id)
            raise ClusterError("no")

    with pytest.raises(ClusterError):
        fail()
    assert console.export_text() == ""
    with pytest.raises(ClusterError):
        fail(next(iter(cells)))
    assert "0 of 12 cells done, 0 running" in console.export_text()


def test_what_mlflow_wraps_is_told_as_the_network_said_it(dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match="Max retries exceeded") as caught:
        MlflowClient(f"http://127.0.0.1:{dead}").search_experiments()
    assert tracking._reason(caught.value) == "Connection refused"
    assert tracking._reason(ValueError("a\nb")) == "a b"


def test_what_no_single_node_holds_is_refused() -> None:
    """One node has the CPUs and another one the GPU: Ray would wait for ever."""
    nodes = [{"CPU": 32.0}, {"CPU": 8.0, "GPU": 1.0}]
    launch._check_resources({Need(8.0, 1.0), Need(32.0, 0.0)}, nodes)
    with pytest.raises(ClusterError, match="a cell needs 16 CPU and 1 GPU on one node and no node has both"):
        launch._check_resources({Need(16.0, 1.0)}, nodes)
    with pytest.raises(ClusterError, match=r"a cell needs 64 CPU and no node has more than 32; lower resources\.cpus"):
        launch._check_resources({Need(64.0, 0.0)}, nodes)


@pytest.mark.parametrize(
    ("asked", "may_grow", "slots"),
    [
        (None, False, (8, Need(8.0, 1.0))),
        (2, True, (2, Need(8.0, 1.0))),
        (20, False, (8, Need(8.0, 1.0))),
        (20, True, (20, None)),
    ],
)
def test_only_a_cluster_grows_to_what_a_grid_asks_for(
    asked: int | None, may_grow: bool, slots: tuple[int, Need | None]
) -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]
    assert launch.slots_of({Need(1.0, 0.0), Need(1.0, 1.0)}, nodes, asked, may_grow=may_grow) == slots
