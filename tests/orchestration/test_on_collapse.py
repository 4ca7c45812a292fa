"""What a grid does about cells that collapse: they are stopped, or branched with state preservation."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console

from analysis import report
from analysis.branches import apart
from analysis.collapse import collapse_events
from analysis.runs import validate_history, validate_runs
from orchestration import commands, watch
from orchestration.branches import branched
from orchestration.commands import Target
from orchestration.commands import run as run_command
from orchestration.dispatch import Dispatch
from orchestration.inline import run_inline
from orchestration.launch import Cluster, load_ray
from orchestration.observer import Observers
from orchestration.store import ON_COLLAPSE, Failure
from orchestration.sweep import Sweep
from orchestration.tables import tables, totals, write_tables
from orchestration.tracking import Tracker
from orchestration.views import planned
from orchestration.watch import Watch
from tests.orchestration.collapsing import collapsing, fall, grid, joint_id, without_joint
from tests.orchestration.grids import Recorder, final_state, run, timeless

PATIENCE = 240
BRANCH = "on_collapse=branch_with_preservation"


def watched(sweep: Sweep, recorder: Recorder) -> Dispatch:
    seen = Watch(sweep, recorder)
    todo = sweep.to_do()
    return Dispatch(sweep, planned(sweep), todo, Observers((recorder, seen)), stops=seen.stops)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SHARE", float("inf"))


def test_a_cell_that_collapses_is_stopped_at_once_and_is_a_row_with_its_reason(
    finished: Sweep, tmp_path: Path, always: None
) -> None:
    sweep, told = without_joint(finished, tmp_path, "on_collapse=stop"), Recorder()
    run_inline(watched(sweep, told))
    mine = joint_id(sweep)
    assert ("failed", mine) in told.calls
    assert max(one.epoch for one in told.reports if one.cell_id == mine) == fall().horizon
    runs, history = tables(sweep)
    runs = runs.set_index("cell_id")
    assert runs.loc[mine, "status"] == "stopped"
    shown = history[history["cell_id"] == mine]
    assert shown["epoch"].to_list() == list(range(1, fall().horizon + 1))
    assert runs.loc[mine, "flops_dense"] == pytest.approx(shown["flops_dense"].sum())
    assert totals(sweep)["alone/flops_dense"] == pytest.approx(history["flops_dense"].sum())
    assert runs.loc[mine, "reason"].startswith(f"At the switch of epoch {fall().switch} accuracy fell")
    assert runs.loc[mine, "reason"].endswith("(on_collapse)")
    assert pd.isna(runs.loc[mine, "accuracy_test"])
    assert set(runs.drop(mine)["status"]) == {"finished"}
    write_tables(sweep)
    made = report.analyze(sweep.folder)
    assert made.surface.set_index(["prune_rate", "coreset_ratio"]).loc[(0.9, 0.1), "n"] == 0
    assert f"{mine}-{fall().switch}" in {event.event_id for event in made.dynamics.events}


def test_a_stopped_cell_stays_stopped_until_the_grid_no_longer_says_so(
    finished: Sweep, tmp_path: Path, always: None
) -> None:
    stopped = without_joint(finished, tmp_path, "on_collapse=stop")
    run_inline(watched(stopped, Recorder()))
    cell = next(cell for cell in stopped.cells.cells if cell.cell_id == joint_id(stopped))
    assert stopped.stopped_by(cell) == ON_COLLAPSE
    other = collapsing(tmp_path, None, "on_collapse=stop", "support_samples=8")
    assert (joint_id(other), other.stopped_by(cell)) == (cell.cell_id, "")
    assert cell in other.to_do()
    assert collapsing(tmp_path, None, "on_collapse=stop").to_do() == ()
    told = Recorder()
    again = run(collapsing(tmp_path), told)
    assert {one.cell_id for one in told.reports} == {joint_id(again)}
    assert min(one.epoch for one in told.reports) == fall().horizon + 1
    for cell in again.cells.cells:
        assert final_state(again, cell) == final_state(finished, cell)


def test_a_stopped_cell_that_mlflow_missed_is_written_by_the_next_run(
    finished: Sweep, tmp_path: Path, always: None
) -> None:
    stopped = without_joint(finished, tmp_path, "on_collapse=stop")
    run_inline(watched(stopped, Recorder()))
    uri = f"sqlite:///{tmp_path}/m.db"
    for _ in range(2):
        tracker = Tracker(collapsing(tmp_path, None, "on_collapse=stop"), uri)
        tracker.start()
        assert (tracker.close({}), tracker.error) == (0, None)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("collapsing")
    assert experiment is not None
    (run_of,) = client.search_runs([experiment.experiment_id], f"tags.cell_id = '{joint_id(stopped)}'")
    assert run_of.info.status == "FAILED"
    assert run_of.data.tags["reason"].endswith("(on_collapse)")
    points = client.get_metric_history(run_of.info.run_id, "accuracy/val")
    assert [point.step for point in points] == list(range(1, fall().horizon + 1))


def test_controls_and_finished_cells_are_never_stopped(finished: Sweep, tmp_path: Path, always: None) -> None:
    sweep = collapsing(tmp_path, Path(finished.store.files.locator), "on_collapse=stop")
    told = Recorder()
    seen = Watch(sweep, told)
    seen.finished(joint_id(sweep))
    assert told.events[joint_id(sweep)][0].irreversible
    assert seen.stops == {}
    for cell in sweep.cells.cells:
        seen.finished(cell.cell_id)
    assert seen.stops == {}


def test_a_trial_whose_cell_is_given_up_ends_alone(tmp_path: Path) -> None:
    sweep, told, stops = collapsing(tmp_path), Recorder(), dict[str, str]()
    dispatch = Dispatch(sweep, planned(sweep), sweep.to_do(), told, stops=stops)
    load_ray(joining=False)
    from orchestration.searcher import ForestSearcher, Stops

    searcher, stopper = ForestSearcher(dispatch), Stops(dispatch)
    first = searcher.suggest("a")
    assert isinstance(first, dict)
    cell_id = first["cell_id"]
    assert not stopper("a", {"cell_id": cell_id})
    stops[cell_id] = "it collapsed (on_collapse)"
    assert stopper("a", {"cell_id": cell_id})
    assert not stopper.stop_all()
    searcher.on_trial_complete("a", {"cell_id": cell_id, "ended": ""})
    stopped = next(cell for cell in sweep.cells.cells if cell.cell_id == cell_id)
    failure = sweep.failure(cell_id)
    assert failure is not None
    assert (sweep.stopped_by(stopped), failure.reason) == (ON_COLLAPSE, stops[cell_id])
    assert told.calls == [("failed", cell_id)]
    handed = {searcher.suggest(name)["cell_id"] for name in "bcd" if searcher.suggest(name) is not None}  # type: ignore[index]
    assert cell_id not in handed


# --- branches --------------------------------------------------------------------------------------------------------


def copied(finished: Sweep, place: Path) -> Path:
    """A store that holds the grid's cells, all finished."""
    shutil.copytree(finished.store.files.locator, place)
    return place


def grid_file(place: Path) -> Path:
    path = place / "collapsing.yaml"
    path.write_text(f"{grid()}on_collapse: branch_with_preservation\n")
    return path


def swast(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from orchestration.cli import main; main()", *map(str, arguments)]


def listed(sweep: Sweep) -> pd.DataFrame:
    return timeless(apart(tables(sweep)[0])[0]).drop(columns="branched_from", errors="ignore")


def test_a_branch_is_the_cell_up_to_the_switch_and_a_row_of_its_own(finished: Sweep, tmp_path: Path) -> None:
    store = copied(finished, tmp_path / "store")
    target = Target(inline=True, store=str(store))
    assert run_command(grid_file(tmp_path), (), tmp_path, target, Console(quiet=True)) == 0
    sweep = branched(collapsing(tmp_path, store, BRANCH))
    (branch,) = (cell for cell in sweep.cells.cells if cell.branched_from)
    assert branch.branched_from == f"{joint_id(sweep)}-{fall().switch}"
    assert branch.config.preservation.name == "complete"
    runs, history = tables(sweep)
    assert len(runs) == len(finished.cells.cells) + 1
    assert runs["branched_from"].dropna().to_list() == [branch.branched_from]
    pd.testing.assert_frame_equal(listed(sweep), listed(finished))
    for cell in finished.cells.cells:
        assert final_state(sweep, cell) == final_state(finished, cell)
    kept = ["epoch", "accuracy_test", "accuracy_val", "loss_train", "loss_preservation", "weights_removed"]
    mine, its = (
        history.loc[history["cell_id"] == name, kept].reset_index(drop=True)
        for name in (joint_id(sweep), branch.cell_id)
    )
    pd.testing.assert_frame_equal(mine.head(fall().switch - 1), its.head(fall().switch - 1))
    assert its["loss_preservation"].notna().to_list() == (its["epoch"] >= fall().switch).to_list()
    assert (mine["accuracy_test"] != its["accuracy_test"]).tail(40 - fall().switch).any()


def test_means_and_events_are_those_of_the_grid_alone_and_the_page_shows_both(finished: Sweep, tmp_path: Path) -> None:
    store = copied(finished, tmp_path / "store")
    with_branch, without = (
        branched(collapsing(tmp_path / name, store, *options)) for name, options in (("a", [BRANCH]), ("b", []))
    )
    assert len(with_branch.to_do()) == 1
    run(with_branch)
    made = []
    for sweep in (with_branch, without):
        write_tables(sweep)
        made.append(report.write(report.analyze(sweep.folder)))
    for name in ("surface", "synergy", "collapse_grid", "points"):
        pd.testing.assert_frame_equal(
            getattr(made[0], name).drop(columns="seconds", errors="ignore"),
            getattr(made[1], name).drop(columns="seconds", errors="ignore"),
        )
    both, alone = (one.totals.set_index("status")["runs"].to_dict() for one in made)
    assert both == {"finished": 4, "branch, finished": 1, "all": 5}
    assert alone == {"finished": 4, "all": 4}
    assert [e.event_id for e in made[0].dynamics.events] == [e.event_id for e in made[1].dynamics.events]
    (row,) = made[0].branches.to_dict("records")
    runs = tables(with_branch)[0].set_index("cell_id")["accuracy_test"]
    assert (row["original"], row["branched"]) == (runs[joint_id(with_branch)], runs[row["branch"]])
    assert row["gain"] == pytest.approx(row["branched"] - row["original"])
    assert (with_branch.folder / "figures" / "branches.png").is_file()
    assert not (without.folder / "figures" / "branches.png").exists()
    assert "their branches with preservation" in (with_branch.folder / "report.html").read_text()


def test_after_ctrl_c_no_branch_is_trained_but_all_are_told(finished: Sweep, tmp_path: Path) -> None:
    sweep = branched(collapsing(tmp_path, copied(finished, tmp_path / "store"), BRANCH))
    branches = [cell for cell in sweep.cells.cells if cell.branched_from]
    cluster = Cluster(None)
    told = commands._run_branches(sweep, planned(sweep), None, cluster, None, Console(file=io.StringIO()))
    assert list(told) == branches != []
    assert not any(sweep.finished(cell) for cell in branches)


def test_no_branch_before_the_grid_is_done_and_none_of_what_is_preserved_already(
    finished: Sweep, tmp_path: Path
) -> None:
    early = without_joint(finished, tmp_path / "a", BRANCH)
    assert branched(early) is early
    early.store.fail(early.end(joint_id(early)), Failure(joint_id(early), "RuntimeError: no"))
    assert branched(early) is early
    assert branched(collapsing(tmp_path, Path(finished.store.files.locator))).cells == finished.cells


def test_a_cell_that_was_given_up_is_not_branched(finished: Sweep, tmp_path: Path, always: None) -> None:
    stopped = without_joint(finished, tmp_path, "on_collapse=stop")
    run_inline(watched(stopped, Recorder()))
    told = tables(stopped)
    events = collapse_events(validate_runs(told[0]), validate_history(told[1]))
    assert joint_id(stopped) in {event.cell_id for event in events if event.irreversible}
    assert branched(collapsing(tmp_path, None, BRANCH)).cells == finished.cells


def test_a_kill_neither_loses_nor_doubles_a_branch(finished: Sweep, tmp_path: Path) -> None:
    store = copied(finished, tmp_path / "store")
    sweep = branched(collapsing(tmp_path / "out", store, BRANCH))
    (branch,) = sweep.to_do()
    stage = sweep.chains[branch.cell_id][-1].stage
    command = swast("run", grid_file(tmp_path), "--inline", "--output", tmp_path / "out", "--store", store)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while not sweep.store.epochs(stage):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = max(sweep.store.epochs(stage))
    assert fall().switch <= reached < 40
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs, history = tables(branched(collapsing(tmp_path / "out", store, BRANCH)))
    assert (runs["branched_from"].notna().sum(), len(runs)) == (1, 5)
    whole = run(branched(collapsing(tmp_path / "whole", copied(finished, tmp_path / "other"), BRANCH)))
    pd.testing.assert_frame_equal(timeless(history), timeless(tables(whole)[1]))


def test_branches_on_ray_are_runs_of_their_own_in_mlflow(finished: Sweep, tmp_path: Path) -> None:
    store = copied(finished, tmp_path / "store")
    command = swast("run", grid_file(tmp_path), "--output", tmp_path, "--store", store)
    for told in ("1 to do", "0 to do"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"once more with preservation: {told}" in " ".join(done.stdout.split())
    client = MlflowClient(f"sqlite:///{tmp_path}/collapsing/mlflow.db")
    experiment = client.get_experiment_by_name("collapsing")
    assert experiment is not None
    runs = [one for one in client.search_runs([experiment.experiment_id]) if "cell_id" in one.data.tags]
    (branch,) = (one for one in runs if "branched_from" in one.data.tags)
    assert len(runs) == 5
    assert branch.data.tags["branched_from"] == f"{joint_id(finished)}-{fall().switch}"
    assert branch.data.params["preservation_from"] == str(fall().switch)
    assert branch.info.status == "FINISHED"
    assert {one.data.tags.get("collapse") for one in runs} == {None, "critical_double_loss (suspected)"}
