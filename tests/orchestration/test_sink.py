"""The MLflow client against a real local database."""

import json
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestration.sink import Sink, TrackingError, _milliseconds
from orchestration.store import Failure
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
    sweep.store.fail(sweep.end(cell.cell_id), Failure(cell.cell_id, "RuntimeError: no"))
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


def test_an_epoch_that_was_lost_and_trained_again_is_one_point(sweep: Sweep, tmp_path: Path) -> None:
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    sink = Sink(sweep, uri)
    sink.write(cell, "RUNNING")
    for segment in sweep.chains[cell.cell_id]:
        for epoch in sweep.store.epochs(segment.stage):
            sweep.store.drop(segment.stage, epoch)
    again = run(tiny(tmp_path, overrides_of_one_cell()))
    Sink(again, uri).write(cell, "FINISHED")
    points = MlflowClient(uri).get_metric_history(sink._runs_by_cell[cell.cell_id], "time/train")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]


def test_a_store_that_falls_back_doubles_no_point(sweep: Sweep, tmp_path: Path) -> None:
    """A damaged checkpoint in the middle: the run that is shown already is trained again from before."""
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    sink = Sink(sweep, uri)
    sink.write(cell, "RUNNING")
    leaf = sweep.chains[cell.cell_id][-1]
    sweep.store.drop(leaf.stage, leaf.last)
    sink.write(cell, "RUNNING")
    run(tiny(tmp_path, overrides_of_one_cell()))
    sink.write(cell, "FINISHED")
    points = MlflowClient(uri).get_metric_history(sink._runs_by_cell[cell.cell_id], "time/train")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]


def test_a_run_whose_parameters_were_lost_on_the_way_gets_them(sweep: Sweep, tmp_path: Path) -> None:
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    Sink(sweep, uri)._new_child(cell, [])
    sink = Sink(sweep, uri)
    sink.write(cell, "FINISHED")
    run = MlflowClient(uri).get_run(sink._runs_by_cell[cell.cell_id])
    assert run.data.params["seed"] == str(cell.config.seed)
    assert len(run.inputs.dataset_inputs) == 1


def test_times_stand_still_where_a_clock_was_set_back(sweep: Sweep, tmp_path: Path) -> None:
    assert _milliseconds([{"time": 3.0}, {"time": 1.0}, {"time": 4.0}]) == [3000, 3000, 4000]


def test_the_figures_are_tried_again_too(sweep: Sweep, tmp_path: Path) -> None:
    in_the_way = sweep.folder / "artifacts"
    in_the_way.write_text("no folder")
    (sweep.folder / "plan.json").write_text("{}")
    tracker = Tracker(sweep, f"sqlite:///{tmp_path}/m.db")
    tracker.start()
    timer = threading.Timer(3.0, in_the_way.unlink)
    timer.start()
    assert tracker.close({"cells_finished": 1.0}, patience=60) == 0
    timer.join()
    assert tracker.error is None
    assert list(in_the_way.rglob("plan.json"))


def test_the_parent_carries_what_the_analysis_made_and_each_run_its_gravest_event(sweep: Sweep, tmp_path: Path) -> None:
    uri, cell = f"sqlite:///{tmp_path}/m.db", sweep.cells.cells[0]
    made = (
        "report.html",
        "collapse_events.json",
        "collapse_events.csv",
        "runs.parquet",
        "figures/a.png",
        "tables/a.tex",
    )
    for name in made:
        (sweep.folder / name).parent.mkdir(exist_ok=True)
        (sweep.folder / name).write_text("[]")
    events = [("critical_double_loss", "suspected"), ("transient", "")]
    listed = [{"cell_id": cell.cell_id, "kind": kind, "status": status} for kind, status in events]
    for told, tag in ((listed, "critical_double_loss (suspected)"), (listed[1:], "transient"), ([], None)):
        (sweep.folder / "collapse_events.json").write_text(json.dumps(told))
        sink = Sink(sweep, uri)
        sink.write(cell, "FINISHED")
        sink.close({}, 0.0)
        assert [run.get("collapse") for run in children(uri)] == [tag]
    carried = {str(path.relative_to(sweep.folder / "artifacts")) for path in (sweep.folder / "artifacts").rglob("*")}
    assert all(any(path.endswith(name) for path in carried) for name in made)
