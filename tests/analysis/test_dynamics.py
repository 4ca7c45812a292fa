"""Events in the report: their statuses, words, counts and files; what a folder without a history or columns gives."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import events, report
from analysis.collapse import collapse_events
from analysis.confirmations import from_record, with_verdicts
from analysis.dynamics import dynamics
from tests.analysis.synthetic_runs import write
from tests.analysis.test_collapse import FLAT, step, sweep
from tests.analysis.test_confirmations import record

LOST = {"joint": step(0.85, 10, 0.30), "prune": step(0.88, 25, 0.2)}
TWO = "1 critical double-loss (1 suspected), 1 single loss"


def folder_of(path: Path, without: tuple[str, ...] = ()) -> Path:
    runs, history = sweep(LOST)
    return write(write(path, runs), history.drop(columns=list(without)), name="history")


def confirmed(cell_id: str, epoch: int) -> dict[str, object]:
    return record(cell_id=cell_id, epoch=epoch)


def test_words_and_counts() -> None:
    found = collapse_events(*sweep(LOST))
    assert events.summary(found) == TWO
    assert events.summary(()) == "none"
    assert events.summary([*found, found[1]]) == "1 critical double-loss (1 suspected), 2 single losses"
    assert found[0].cell == "rigl × el2n, prune rate 90 %, coreset ratio 10 %, preservation none, seed 0"
    numbers = events.numbers(found)
    assert numbers["events_critical_double_loss"] == numbers["events_suspected"] == numbers["events_single_loss"] == 1
    assert numbers["events_transient"] == 0
    assert len(numbers) == len(events.KINDS) + 2


def test_a_refuted_one_is_counted_as_none() -> None:
    found = collapse_events(*sweep(LOST))
    told = [replace(found[0], status="refuted: samples_alone"), *found[1:]]
    assert events.summary(told) == "1 single loss, 1 refuted as a double loss"
    numbers = events.numbers(told)
    assert (numbers["events_critical_double_loss"], numbers["events_refuted"]) == (0, 1)


def test_kinds_have_names_and_meanings() -> None:
    assert list(events.KINDS) == list(events.NAMES)


def test_a_confirmation_gives_its_event_a_status() -> None:
    found = collapse_events(*sweep(LOST))
    cell_id, epoch = found[0].cell_id, found[0].epoch
    others = with_verdicts(found, [from_record(confirmed(cell_id, epoch + 5))])
    assert others == found
    told = with_verdicts(found, [from_record(confirmed(cell_id, epoch))])
    assert [event.status for event in told] == ["amplified", ""]
    assert "both 33.0" in told[0].confirmation
    assert events.suspects(told) == ()
    assert events.summary(told) == "1 critical double-loss (1 amplified), 1 single loss"


def test_the_report_shows_the_events_and_writes_them(tmp_path: Path) -> None:
    done = report.write(report.analyze(folder_of(tmp_path)))
    listed = json.loads((tmp_path / events.FILE).read_text())
    assert [(event["kind"], event["status"]) for event in listed] == [
        ("critical_double_loss", "suspected"),
        ("single_loss", ""),
    ]
    assert {events.FILE, "collapse_events.csv"} <= {path.name for path in done.files}
    frame = pd.read_csv(tmp_path / "collapse_events.csv")
    assert frame["event_id"].tolist() == [event["event_id"] for event in listed]
    for name in ("noise", "threshold", "horizon", "censored", "role"):
        assert frame[name].tolist() == pytest.approx([event[name] for event in listed])
    page = (tmp_path / "report.html").read_text()
    assert f"<strong>{TWO}.</strong> Judged on test accuracy" in page
    assert page.index("<td>critical_double_loss</td>") < page.index("<td>single_loss</td>")
    assert done.numbers()["events_suspected"] == 1.0


def test_missing_columns_are_said_on_the_page(tmp_path: Path) -> None:
    done = report.write(report.analyze(folder_of(tmp_path, without=("weights_removed",))))
    said = "No column weights_removed in the history: a loss of weights is assumed in every window."
    assert said in done.dynamics.notes
    assert said in (tmp_path / "report.html").read_text()


def test_of_runs_evaluated_now_and_then_no_loss_is_told_and_that_is_said() -> None:
    runs, history = sweep(LOST)
    seldom = history.assign(accuracy_test=history["accuracy_test"].where(history["epoch"] % 2 == 1))
    found = dynamics(runs, seldom)
    assert found.events == ()
    assert found.summary == "not looked for"
    assert found.switches["drop"].isna().all()
    said = "4 of 4 runs were evaluated now and then, never in three epochs on end: no loss of accuracy at a switch"
    assert any(note.startswith(said) for note in found.notes)
    assert not any("now and then" in note for note in dynamics(runs, history).notes)


def test_a_confirmed_event_is_shown_with_its_verdict(tmp_path: Path) -> None:
    event = report.analyze(folder_of(tmp_path)).dynamics.events[0]
    (tmp_path / "confirmations").mkdir()
    told = confirmed(event.cell_id, event.epoch)
    (tmp_path / "confirmations" / f"{event.event_id}.json").write_text(json.dumps(told))
    report.write(report.analyze(tmp_path))
    assert json.loads((tmp_path / events.FILE).read_text())[0]["status"] == "amplified"
    page = (tmp_path / "report.html").read_text()
    row = re.search(rf"<tr><td>{event.event_id}</td>(.*)</tr>", page)
    assert row is not None
    assert row[1].startswith("<td>critical_double_loss</td><td>amplified</td>")


def test_no_event_is_said_and_no_history_is_no_claim(tmp_path: Path) -> None:
    runs, history = sweep(dict(FLAT))
    write(write(tmp_path, runs), history, name="history")
    report.write(report.analyze(tmp_path))
    assert json.loads((tmp_path / events.FILE).read_text()) == []
    assert "<strong>none.</strong>" in (tmp_path / "report.html").read_text()
    nothing = dynamics(runs, history.head(0))
    assert (nothing.split, nothing.events) == ("", ())
    (tmp_path / "alone").mkdir()
    alone = report.write(report.analyze(write(tmp_path / "alone", runs)))
    assert not (tmp_path / "alone" / events.FILE).exists()
    assert "Collapse events" not in (tmp_path / "alone" / "report.html").read_text()
    assert "events_suspected" not in alone.numbers()


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_split_is_named(split: str) -> None:
    runs, history = sweep(LOST)
    told = history.assign(accuracy_val=history["accuracy_test"]) if split == "val" else history
    assert dynamics(runs, told).split == {"test": "test", "val": "validation"}[split]


def test_r_is_what_the_plan_says_where_one_switch_tells_nothing(tmp_path: Path) -> None:
    """T = 30, R = 20: no epoch a period after the switch of epoch 20 was trained. Untold, R would pass for 11."""
    runs, history = sweep({"joint": step(0.85, 20, 0.3)})
    history["switch"] &= history["epoch"] == 20
    runs.to_csv(tmp_path / "runs.csv", index=False)
    history.to_csv(tmp_path / "history.csv", index=False)
    assert [event.status for event in report.analyze(tmp_path).dynamics.events] == ["suspected"]
    (tmp_path / "plan.json").write_text('{"common": {"select_every": 20}}')
    assert [event.status for event in report.analyze(tmp_path).dynamics.events] == ["censored"]
