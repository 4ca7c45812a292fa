"""``swast confirm``: from a sweep's folder to four arms, a verdict, a figure; resumed, refused, spread."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.confirmations import FOLDER, read
from core.state import dump
from core.trainer import Trainer
from orchestration import arms, confirmation
from orchestration.arms import before
from orchestration.confirmation import confirm, named, suspected
from orchestration.errors import UsageError
from orchestration.sweep import Sweep
from orchestration.threads import torch_threads
from sweeps.cells import Cell, joint
from tests.orchestration.grids import TINY, run, tiny
from tests.orchestration.test_cli import call, refused

ONE = ["axes.prune_rate=[0.8]", "axes.coreset_ratio=[0.25]", "axes.selector=[el2n]", "axes.seed=[0]"]
SWITCH = 4


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One joint cell, run; its checkpoints but the last are gone except the one after epoch 2."""
    path = tmp_path_factory.mktemp("out")
    sweep = tiny(path, TINY, *ONE, "baselines=false")
    sweep.folder.mkdir()
    (sweep.folder / "sweep.yaml").write_text(sweep.spec.text)
    run(sweep)
    return path


@pytest.fixture
def sweep(output: Path, tmp_path: Path) -> Sweep:
    shutil.copytree(output / "tiny", tmp_path / "tiny")
    return tiny(tmp_path, TINY, *ONE, "baselines=false")


def cell_of(sweep: Sweep) -> Cell:
    return next(cell for cell in sweep.cells.cells if joint(cell.config))


def confirmed(sweep: Sweep, seeds: int = 1, workers: int = 1, switch: int = SWITCH) -> dict[str, Any]:
    event = named(sweep, cell_of(sweep).cell_id, switch)
    return [record for record, _ in confirm(sweep, event, seeds, workers)][-1]


def untimed(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


@pytest.mark.parametrize("lost", ["nothing", "the checkpoint before", "all but the first", "everything"])
def test_the_state_before_a_switch_is_found_or_trained_again(sweep: Sweep, lost: str) -> None:
    cell = cell_of(sweep)
    chain = sweep.chains[cell.cell_id]
    for segment in chain if lost != "nothing" else ():
        for epoch in sweep.store.epochs(segment.stage):
            if lost == "everything" or (epoch == SWITCH - 1 if lost == "the checkpoint before" else epoch > 1):
                sweep.store.drop(segment.stage, epoch)
    bundle = sweep.bundle(cell.config)
    found = before(cell.config, chain, bundle, sweep.store, SWITCH, "cpu")
    alone = Trainer(cell.config, bundle)
    list(alone.events(until=SWITCH - 1))
    assert dump(found.state()) == dump(alone.state())


def test_both_with_the_runs_own_draws_repeats_the_stored_window(sweep: Sweep) -> None:
    record = confirmed(sweep)
    assert record["repeats"] is True
    rows, _ = sweep.history(cell_of(sweep)) or ([], False)
    for row in record["own"]["rows"][:2]:
        stored = next(other for other in rows if other["epoch"] == row["epoch"])
        assert row == {name: stored[name] for name in row}
    assert {one["seed"] for one in record["runs"]} == {1}
    assert {one["arm"] for one in record["runs"]} == {"neither", "weights", "samples", "both"}
    assert all([row["epoch"] for row in one["rows"]] == [4, 5, 6] for one in record["runs"])


def test_arms_in_this_process_train_with_the_cells_threads(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    honest = arms.arm_run
    monkeypatch.setattr(arms, "arm_run", lambda *given: used.append(torch.get_num_threads()) or honest(*given))
    with torch_threads(2):
        confirmed(sweep)
        assert torch.get_num_threads() == 2
    assert used == [1, 1, 1, 1, 1]


def test_more_seeds_add_to_what_is_done_and_an_interrupted_one_goes_on(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = named(sweep, cell_of(sweep).cell_id, SWITCH)
    steps = confirm(sweep, event, 2)
    for _ in range(5):
        next(steps)
    steps.close()
    ran: list[tuple[str, int]] = []
    honest = arms.arm_run
    monkeypatch.setattr(arms, "arm_run", lambda work, arm, seed: ran.append((arm, seed)) or honest(work, arm, seed))
    resumed = confirmed(sweep, seeds=2)
    assert ran == [("weights", 2), ("samples", 2), ("both", 2), ("both", 0)]
    assert confirmed(sweep, seeds=2) == resumed
    assert len(ran) == 4
    (sweep.folder / FOLDER / f"{event.name}.json").unlink()
    assert untimed(confirmed(sweep, seeds=2)) == untimed(resumed)


def test_arms_of_other_arithmetic_are_run_again(sweep: Sweep) -> None:
    confirmed(sweep)
    path = next((sweep.folder / FOLDER).glob("*.json"))
    record = json.loads(path.read_text())
    for damage in (json.dumps({**record, "key": "0" * 64}), "{", '{"runs": 1}'):
        path.write_text(damage)
        assert confirmed(sweep) == record


def test_workers_give_the_same_record(sweep: Sweep) -> None:
    alone = confirmed(sweep)
    next((sweep.folder / FOLDER).glob("*.json")).unlink()
    assert confirmed(sweep, workers=2) == alone


def test_a_run_that_diverges_is_at_chance_from_there(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    event = named(sweep, cell_of(sweep).cell_id, SWITCH)
    work = confirmation._work(sweep, event)
    monkeypatch.setattr("core.trainer._not_finite", lambda ended: "training loss is nan" if ended.epoch == 5 else "")
    found = arms.arm_run(work, "both", 0)
    assert found["diverged"]
    assert [row["epoch"] for row in found["rows"]] == [4, 5, 6]
    assert [row["accuracy_test"] for row in found["rows"]][1:] == [work.bundle.chance] * 2


def test_the_command_from_a_name_to_a_figure_in_the_report(sweep: Sweep) -> None:
    name = f"{cell_of(sweep).cell_id}-{SWITCH}"
    told = call("confirm", sweep.folder, name, "--data-orders", "3")
    assert "data order 2, both removed:" in told
    assert "interaction" in told
    found, notes = read(sweep.folder)
    assert [one.event for one in found] == [name]
    assert notes == ()
    assert found[0].verdict.n == 3
    assert f"{found[0].verdict.title}:" in told
    for kind in ("png", "svg"):
        assert (sweep.folder / "figures" / f"confirmation-{name}.{kind}").stat().st_size > 1000
    again = call("confirm", sweep.folder, "--cell", cell_of(sweep).cell_id, "--epoch", SWITCH, "--seeds", "3")
    assert "both removed:" not in again
    assert found[0].verdict.numbers() in again


def test_the_help_says_how_many_data_orders_a_verdict_takes() -> None:
    told = re.sub(r"[│\s]+", " ", call("confirm", "--help"))
    assert "--data-orders" in told
    assert "a verdict takes 3 at least" in told


def event(cell_id: str, epoch: int, **other: object) -> dict[str, object]:
    return {"cell_id": cell_id, "epoch": epoch, "kind": "critical_double_loss", "status": "suspected", **other}


def test_all_takes_the_suspected_ones_deepest_first_and_says_what_cannot_be_forked(sweep: Sweep) -> None:
    cell_id = cell_of(sweep).cell_id
    listed = [
        event(cell_id, 4, drop=0.1),
        event(cell_id, 6, drop=0.5),
        event(cell_id, 2, drop=0.3),
        event(cell_id, 2, drop=0.9, kind="transient"),
        event(cell_id, 2, drop=0.9, status="censored"),
    ]
    (sweep.folder / "collapse_events.json").write_text(json.dumps(listed))
    assert suspected(sweep.folder, None) == [(cell_id, 6), (cell_id, 2), (cell_id, 4)]
    judged = [{**one, "status": "amplified"} if one["drop"] == 0.5 else one for one in listed]
    (sweep.folder / "collapse_events.json").write_text(json.dumps(judged))
    assert suspected(sweep.folder, None) == [(cell_id, 6), (cell_id, 2), (cell_id, 4)]
    assert suspected(sweep.folder, 2) == [(cell_id, 6), (cell_id, 2)]
    told = call("confirm", sweep.folder, "--all", "--limit", "2", "--data-orders", "3")
    assert "the switch at epoch 6 has 1 of R = 2 epochs left" in told
    assert f"{cell_id}-2:" in told
    assert f"{cell_id}-4:" not in told


def test_no_suspect_is_no_error(sweep: Sweep) -> None:
    (sweep.folder / "collapse_events.json").write_text("[]")
    assert "no suspected double loss" in call("confirm", sweep.folder, "--all")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["0123456789ab-4"], "has no cell '0123456789ab'"),
        (["0123456789ab"], "'0123456789ab' names no event; write CELL_ID-EPOCH"),
        (["--cell", "x"], "--epoch is missing"),
        (["--epoch", "4"], "--cell is missing"),
        ([], "name the events in one way"),
        (["a-1", "--all"], "name the events in one way"),
        (["a-1", "--limit", "2"], "--limit 2 goes with --all only"),
        (["--all"], "holds no collapse_events.json; swast analyze"),
        (["CELL-5"], "epoch 5 is no switch of the cell; its switches with a window: 2, 4"),
    ],
)
def test_bad_input_is_one_sentence(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    names = [part.replace("CELL", cell_of(sweep).cell_id) for part in given]
    assert said in refused(capsys, monkeypatch, "confirm", sweep.folder, *names)


def test_a_folder_that_is_no_sweep_and_a_file_that_is_no_list_of_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds no sweep.yaml" in refused(capsys, monkeypatch, "confirm", tmp_path, "a-1")
    for content in ("{", "[1]", '{"a": 1}', '[{"kind": "critical_double_loss"}]'):
        (tmp_path / "collapse_events.json").write_text(content)
        with pytest.raises(UsageError, match="is no list of events"):
            suspected(tmp_path, None)
