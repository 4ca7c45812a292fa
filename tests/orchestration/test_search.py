"""The frontier search of a sweep: rounds over one store, told by validation, resumed after anything."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from analysis.frontier import indicators
from analysis.runs import load_runs
from orchestration.dispatch import Budget
from orchestration.inline import run_inline
from orchestration.observer import Observers
from orchestration.rounds import Rounds
from orchestration.search import JOURNAL, Search, search_of
from orchestration.store import Failure
from orchestration.sweep import Sweep, held
from orchestration.tables import write_tables
from orchestration.views import planned
from sweeps.cells import Cell
from tests.orchestration.grids import tiny
from tests.orchestration.test_cli import call

GRID = """
name: tiny
cell:
  data: {name: synthetic, samples: 160, test_samples: 40, classes: 4, size: 8}
  model: {name: small_cnn, width: 4}
  epochs: 4
  select_every: 2
  warmup_epochs: 1
  batch_size: 32
  selector: el2n
  pruner: {name: rigl, update_every: {per_interval: 3}}
frontier: {budget_cells: 0.7}
axes:
  prune_rate: [0.5, 0.8]
  coreset_ratio: [0.5, 0.25]
  seed: [0, 1]
support_samples: 0
"""
BUDGET = 13  # of 2 x (dense, 2 prune-only, 2 coreset-only, 4 joint) = 18: 12.6


def opened(output: Path, *overrides: str) -> Search:
    sweep = tiny(output, GRID, *overrides)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    assert sweep.spec.frontier is not None
    return search_of(sweep, sweep.spec.frontier)


def train(sweep: Sweep, cells: tuple[Cell, ...]) -> None:
    rounds = Rounds(sweep, planned(sweep), Observers(()), Budget())
    rounds.run(cells, lambda dispatch, _: run_inline(dispatch))


def test_a_budget_that_is_used_up_before_a_round_begins_starts_nothing(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    rounds = Rounds(sweep, planned(sweep), Observers(()), Budget(flop=0.0))
    rounds.run(sweep.to_do(), lambda *_: pytest.fail("started"))
    assert rounds.exhausted


def finish(search: Search) -> list[str]:
    """Run to the end of the budget; the joint cells in the order in which they were asked for."""
    while cells := search.ask(1):
        train(search.sweep, cells)
    trials = search.study.get_trials()
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    return [str(trial.user_attrs["cell_id"]) for trial in trials]


def test_a_run_spends_its_budget_then_does_nothing_and_says_so(tmp_path: Path) -> None:
    grid = tmp_path / "tiny.yaml"
    grid.write_text(GRID)
    first = call("run", grid, "--inline", "--output", tmp_path)
    assert f"18 to do; a frontier search trains {BUDGET} in all at most" in first
    assert "points from Bliss independence on validation" in first
    assert "with their controls, 72% of the grid's 18" in first
    assert "report.html" in first
    runs = load_runs(tmp_path / "tiny")
    assert len(runs) <= BUDGET
    again = call("run", grid, "--inline", "--output", tmp_path)
    assert f"{len(runs)} finished already" in again
    assert "running" not in again
    assert f"{len(runs)} of 18 cells done, 0 failed; a frontier search trains {BUDGET} at most" in call(
        "status", tmp_path / "tiny"
    )
    assert len(load_runs(tmp_path / "tiny")) == len(runs)
    more = opened(tmp_path, "frontier.budget_cells=1.0")
    finish(more)
    assert more.trained() == (8, 18)
    told = call("plan", grid, "--output", tmp_path)
    assert "trains 13 cells at most (72%)" in told


def test_the_controls_of_a_pruner_that_starts_with_the_warm_up_are_those_that_the_grid_brings(tmp_path: Path) -> None:
    """With K open it follows the ratio, and the prune-only control, at ratio 1, has another than its joint cells."""
    text = GRID.replace("  warmup_epochs: 1\n", "").replace("select_every: 2", "select_every: 3")
    text = text.replace("{name: rigl, update_every: {per_interval: 3}}", "{name: gmp, update_every: 1}")
    sweep = tiny(tmp_path, text, "frontier.budget_cells=1.0")
    assert sweep.spec.frontier is not None
    sweep.folder.mkdir(parents=True)
    search = search_of(sweep, sweep.spec.frontier)
    there = {cell.cell_id for cell in sweep.cells.cells}
    assert all(candidate.needs <= there and len(candidate.needs) == 4 for candidate in search.space.candidates)
    assert len(finish(search)) == 8


def test_verdicts_are_those_of_the_analysis_on_validation(tmp_path: Path) -> None:
    """Of the whole grid: then the mean over the dense runs is the same for the first trial and the last."""
    search = opened(tmp_path, "frontier.budget_cells=1.0")
    train(search.sweep, search.sweep.cells.cells)
    fresh = opened(tmp_path, "frontier.budget_cells=1.0")
    write_tables(fresh.sweep)
    runs = load_runs(fresh.sweep.folder)
    found = indicators(runs.assign(accuracy_test=runs["accuracy_val"]))
    trials = fresh.study.get_trials()
    assert len(trials) == 8
    rows = {(p, a): i for i, (p, a) in enumerate(found.cells[["prune_rate", "coreset_ratio"]].to_numpy())}
    for trial in trials:
        row = rows[trial.params["prune_rate"], trial.params["coreset_ratio"]]
        assert found.collapsed_CS[row, trial.params["seed"]] == trial.user_attrs["collapsed"]


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = finish(opened(tmp_path / "whole"))
    cut = opened(tmp_path / "cut")
    train(cut.sweep, cut.ask(1))
    assert cut.ask(1)  # asked for, and killed before its cells were trained
    resumed = opened(tmp_path / "cut")
    assert resumed.running
    assert finish(resumed) == whole
    assert len(whole) > 2


def test_a_trial_whose_cells_were_trained_before_the_kill_is_told(tmp_path: Path) -> None:
    search = opened(tmp_path)
    train(search.sweep, search.ask(1))
    resumed = opened(tmp_path)
    assert [verdict is not None for _, verdict in resumed.settle()] == [True]
    assert not resumed.running


def test_as_many_trials_as_slots_run_at_once(tmp_path: Path) -> None:
    search = opened(tmp_path)
    cells = search.ask(3)
    assert len(search.study.get_trials(states=(TrialState.RUNNING,))) == 3
    assert {cell.cell_id for cell in cells} == search.space.spent(
        candidate.cell_id for candidate, _ in search._running()
    )
    train(search.sweep, cells)
    assert len(search.settle()) == 3


def test_a_lost_or_damaged_journal_is_made_again_from_the_store(tmp_path: Path) -> None:
    search = opened(tmp_path)
    first = finish(search)
    journal = search.sweep.folder / JOURNAL
    journal.write_bytes(b'{"op_code"' + journal.read_bytes())
    again = opened(tmp_path)
    assert journal.with_name(f"{JOURNAL}.damaged").is_file()
    assert not again.ask(1)
    assert sorted(str(trial.user_attrs["cell_id"]) for trial in again.study.get_trials()) == sorted(first)


def test_a_trial_that_was_only_half_asked_for_is_given_up(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.study._storage.create_new_trial(search.study._study_id)
    assert [trial.state for trial in opened(tmp_path).study.get_trials()] == [TrialState.FAIL]


def test_an_extended_grid_has_a_study_of_its_own_that_knows_what_is_done(tmp_path: Path) -> None:
    done = finish(opened(tmp_path))
    wider = opened(tmp_path, "axes.seed=[0,1,2]")
    assert [str(trial.user_attrs["cell_id"]) for trial in wider.study.get_trials()] == sorted(
        done, key=lambda cell_id: [c.cell_id for c in wider.space.candidates].index(cell_id)
    )
    assert wider.ask(1)
    assert len(optuna.get_all_study_names(wider.study._storage)) == 2


def test_a_failed_control_fails_its_trial_and_the_search_goes_on(tmp_path: Path) -> None:
    search = opened(tmp_path)
    candidate, _ = (search.ask(1), search._running()[0])[1]
    control = next(iter(candidate.needs - {candidate.cell_id}))
    search.sweep.store.fail(search.sweep.end(control), Failure(control, "broken"))
    assert search.settle() == ((candidate, None),)
    assert search.study.get_trials()[0].state == TrialState.FAIL
    while cells := search.ask(1):
        assert control not in {cell.cell_id for cell in cells}, "it is not tried again"
        train(search.sweep, cells)
    states = {trial.state for trial in search.study.get_trials()}
    assert states == {TrialState.FAIL, TrialState.COMPLETE}, "others are asked for, which need it and which do not"


def test_a_budget_of_time_ends_the_search_between_cells(tmp_path: Path) -> None:
    grid = tmp_path / "tiny.yaml"
    grid.write_text(GRID)
    out = call("run", grid, "--inline", "--output", tmp_path, "--budget", "0.001s")
    assert "The budget is used up" in out
    assert "To go on:" in out
    with held(tmp_path / "tiny"):
        pass
    assert "72% of the grid's 18" in call("run", grid, "--inline", "--output", tmp_path)


def test_it_needs_a_whole_study_on_disk_that_optuna_opens(tmp_path: Path) -> None:
    """As optuna-dashboard does: by the path alone."""
    finish(opened(tmp_path))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "tiny" / JOURNAL))
    )
    (name,) = optuna.get_all_study_names(storage)
    trial = optuna.load_study(study_name=name, storage=storage).best_trial
    assert set(trial.params) == {"prune_rate", "coreset_ratio", "seed", "variant"}
    assert isinstance(trial.user_attrs["collapsed"], bool)
    assert trial.value == pytest.approx(trial.values[0])
