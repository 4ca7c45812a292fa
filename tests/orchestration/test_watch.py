"""Collapse events while a sweep goes on, on real training that collapses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.events import Event, to_json
from orchestration import watch
from orchestration.files import StoreError
from orchestration.observer import Observers, Report
from orchestration.sweep import Sweep
from orchestration.tracking import Tracker
from orchestration.watch import Watch
from tests.orchestration.collapsing import collapsing, fall, joint_id, offline, without_joint
from tests.orchestration.grids import Recorder, run

PATIENCE = 60


class Diary(Recorder):
    """What was told of each cell, with the epoch that the store held then."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__()
        self._sweep = sweep
        self.told: list[tuple[int, str, Event | None]] = []

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        newest = max(self._sweep.store.epochs(self._sweep.chains[cell_id][-1].stage))
        self.told.append((newest, cell_id, events[0] if events else None))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look whenever there is something new, whatever that costs."""
    monkeypatch.setattr(watch, "SHARE", float("inf"))


def test_an_event_is_told_while_its_run_goes_on_and_settled_at_its_horizon(
    finished: Sweep, tmp_path: Path, always: None
) -> None:
    sweep = without_joint(finished, tmp_path)
    assert [cell.cell_id for cell in sweep.to_do()] == [joint_id(sweep)]
    diary = Diary(sweep)
    run(sweep, Observers((diary, Watch(sweep, diary))))
    told = [(epoch, event) for epoch, cell_id, event in diary.told if cell_id == joint_id(sweep) and event is not None]
    mine = [(epoch, event) for epoch, event in told if event.epoch == fall().switch]  # others came and were taken back
    by_status = {status: [at for at, event in mine if event.status == status] for status in ("open", "suspected")}
    assert fall().switch <= min(by_status["open"]) <= max(by_status["open"]) < fall().horizon
    assert min(by_status["suspected"]) == fall().horizon < 40
    last, found = mine[-1][1], [event for event in offline(sweep) if event.cell_id == joint_id(sweep)]
    assert to_json([last]) == to_json(found)
    assert (last.epoch, last.kind) == (fall().switch, "critical_double_loss")


def test_without_its_controls_an_event_waits_for_them(finished: Sweep, tmp_path: Path, always: None) -> None:
    """A watch that begins with the joint cell finished and no control begun, which then come one after another."""
    told = Recorder()
    sweep = collapsing(tmp_path, finished.store.files.locator)
    seen = Watch(sweep, told)
    controls = seen._changed.copy()
    for cell_id in controls:
        seen._courses[cell_id] = watch.Course([], over=False, diverged=False)
    seen._changed.clear()
    seen.finished(joint_id(sweep))
    event = told.events[joint_id(sweep)][0]
    assert (event.kind, event.status) == ("unattributed", "open")
    assert set(event.waits) == {"prune_only", "coreset_only", "dense"}
    for number, cell_id in enumerate(sorted(controls)):
        assert told.events[joint_id(sweep)][0].status == "open"
        assert len(told.events[joint_id(sweep)][0].waits) == 3 - number
        seen.finished(cell_id)
    assert told.events[joint_id(sweep)][0].status == "suspected"
    assert joint_id(sweep) not in seen._courses


def test_a_failed_control_is_waited_for_no_longer(finished: Sweep, tmp_path: Path, always: None) -> None:
    told = Recorder()
    sweep = collapsing(tmp_path, finished.store.files.locator)
    seen = Watch(sweep, told)
    for cell_id in sorted(seen._changed):
        seen.failed(cell_id, "RuntimeError: no")
    seen.finished(joint_id(sweep))
    assert {(event.kind, event.status) for event in told.events[joint_id(sweep)]} <= {
        ("unattributed", ""),
        ("transient", ""),
    }
    assert all(event.add for event in told.events[joint_id(sweep)] if event.kind == "unattributed")


def test_looking_takes_no_more_than_its_share(finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look of one second: at a share of 2 % the next one is due 50 seconds later, whatever has come in."""
    now, looks = [1000.0], []
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    seen = Watch(finished, Recorder())

    def look() -> None:
        looks.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(seen, "look", look)
    for epoch in range(1, 201):
        seen.progressed(Report(joint_id(finished), epoch=epoch, stored=epoch))
        seen.progressed(Report("a cell of none of these", epoch=epoch, stored=epoch))
        now[0] += 0.5
    assert looks == [1000.0, 1051.0]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_mlflow_has_the_tag_and_the_metrics_before_the_sweep_is_over(
    finished: Sweep, tmp_path: Path, always: None
) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    sweep = without_joint(finished, tmp_path)
    tracker = Tracker(sweep, uri)
    tracker.start()
    run(sweep, Observers((tracker, Watch(sweep, tracker))))
    client = MlflowClient(uri)

    def child() -> dict[str, str]:
        runs = client.search_runs([client.get_experiment_by_name("collapsing").experiment_id])  # type: ignore[union-attr]
        mine = [run for run in runs if run.data.tags.get("cell_id") == joint_id(sweep)]
        return {**mine[0].data.tags, "run_id": mine[0].info.run_id} if mine else {}

    wait_for(lambda: child().get("collapse") == "critical_double_loss (suspected)")
    points = client.get_metric_history(child()["run_id"], "collapse/drop")
    event = next(event for event in offline(sweep) if event.cell_id == joint_id(sweep))
    assert points[-1].step == fall().horizon
    assert points[-1].value == pytest.approx(event.drop)
    assert tracker.close({}) == 0
    assert len({(point.step, point.value) for point in points}) == len(points)


def test_a_store_that_cannot_be_read_just_now_ends_no_sweep(
    finished: Sweep, always: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = Recorder()
    seen = Watch(finished, told)
    honest = watch.course
    monkeypatch.setattr(watch, "course", lambda *_: (_ for _ in ()).throw(StoreError("the network is away")))
    seen.finished(joint_id(finished))
    assert "not looked for at present: the network is away" in caplog.text
    assert told.events == {}
    monkeypatch.setattr(watch, "course", honest)
    for cell in finished.cells.cells:
        seen.finished(cell.cell_id)
    assert told.events[joint_id(finished)][0].irreversible
