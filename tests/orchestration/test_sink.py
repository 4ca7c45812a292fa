"""The MLflow client against a real local database."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestration.sink import Sink, TrackingError
from orchestration.sweep import Sweep
from orchestration.tracking import Tracker
from tests.orchestration.grids import run, tiny


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return run(tiny(tmp_path, overrides_of_one_cell()))


def overrides_of_one_cell() -> str:
    from tests.orchestration.grids import TINY

    axes = "axes:\n  prune_rate: [0]\n  coreset_ratio: [1]\n"
    return TINY.partition("axes:")[0] + axes


def children(uri: str) -> list[dict[str, str]]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [{**run.data.tags, "status": run.info.status} for run in runs if "cell_id" in run.data.tags]


def test_a_cell_that_succeeds_after_a_failure_has_no_reason_any_more(sweep: Sweep, tmp_path: Path) -> None:
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    sweep.store.fail(cell.cell_id, "RuntimeError: no", "")
    Sink(sweep, uri).write(cell, "FAILED")
    assert [(run["status"], run["reason"]) for run in children(uri)] == [("FAILED", "RuntimeError: no")]
    Sink(sweep, uri).write(cell, "FINISHED")
    assert [(run["status"], "reason" in run) for run in children(uri)] == [("FINISHED", False)]


def test_a_run_deleted_by_hand_in_the_middle_is_written_anew(sweep: Sweep, tmp_path: Path) -> None:
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    tracker = Tracker(sweep, uri)
    tracker._sink = Sink(sweep, uri)
    tracker._sink.write(cell, "RUNNING")
    client = MlflowClient(uri)
    client.delete_run(next(iter(tracker._sink._runs_by_cell.values())))
    tracker.start()
    assert tracker.close({"cells_finished": 1.0}) == 0
    assert tracker.error is None
    assert [run["status"] for run in children(uri)] == ["FINISHED"]


def test_a_deleted_experiment_is_one_sentence_with_the_way_out(sweep: Sweep, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    Sink(sweep, uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(TrackingError, match=r"tiny is deleted there; restore it \(mlflow experiments restore --exp"):
        Sink(sweep, uri)
