from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from analysis.runs import load_history, load_runs
from orchestration.observer import Report
from orchestration.store import Failure
from orchestration.tables import _outcome, tables, totals, write_tables
from tests.orchestration.grids import BROKEN, TINY, Recorder, run, tiny


def test_the_tables_keep_the_schema_of_analysis(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path))
    write_tables(sweep)
    runs, history = load_runs(sweep.folder), load_history(sweep.folder)
    assert len(runs) == len(sweep.cells.cells) == 12
    assert len(history) == 12 * 6
    assert set(runs["status"]) == {"finished"}


def test_a_cells_cost_is_the_sum_along_its_chain(tmp_path: Path) -> None:
    runs, history = tables(run(tiny(tmp_path)))
    sums = history.groupby("cell_id")[["flops_dense", "flops_sparse", "flops_selection", "seconds"]].sum()
    for name in sums:
        assert runs.set_index("cell_id")[name].to_dict() == pytest.approx(sums[name].to_dict())
    dense = runs[(runs["pruner"] == "none") & (runs["coreset_ratio"] == 1)]
    assert dense["flops_relative"].tolist() == [1.0, 1.0]


def test_shared_segments_are_executed_once(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path))
    runs, _ = tables(sweep)
    spent = totals(sweep)
    assert spent["alone/flops_dense"] == pytest.approx(runs["flops_dense"].sum())
    # Per seed and prune rate the two selectors and the run on all data share epoch 1.
    one_epoch = runs.loc[(runs["pruner"] == "none") & (runs["coreset_ratio"] == 1), "flops_dense"].iloc[0] / 6
    assert spent["alone/flops_dense"] - spent["executed/flops_dense"] == pytest.approx(8 * one_epoch)


class Interrupting(Recorder):
    """Ctrl-C after some epochs."""

    def progressed(self, report: Report) -> None:
        super().progressed(report)
        if len(self.reports) == 20:
            raise KeyboardInterrupt


def test_what_was_cut_off_has_been_executed(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    with contextlib.suppress(KeyboardInterrupt):
        run(sweep, Interrupting())
    assert 0 < sum(map(sweep.finished, sweep.cells.cells)) < 12
    stored = {
        (segment.stage, row["epoch"]): row["flops_dense"]
        for chain in sweep.chains.values()
        for segment in chain
        for entry in sweep.store.entries(segment.stage, segment.first, segment.last)
        for row in entry.rows
    }
    spent, runs = totals(sweep), tables(sweep)[0]
    assert spent["executed/flops_dense"] == pytest.approx(sum(stored.values()))
    assert runs["flops_dense"].sum() < spent["alone/flops_dense"]
    assert spent["alone/flops_dense"] - runs["flops_dense"].sum() < spent["executed/flops_dense"]


def test_what_is_evaluated_now_and_then_ends_alike(tmp_path: Path) -> None:
    every, seldom = (run(tiny(tmp_path / str(n), TINY, f"evaluate_every={n}")) for n in (1, 4))
    for sweep in (every, seldom):
        write_tables(sweep)
    told = [load_runs(sweep.folder) for sweep in (every, seldom)]
    assert told[0]["accuracy_test"].tolist() == told[1]["accuracy_test"].tolist()
    assert told[0]["accuracy_class_0"].tolist() == told[1]["accuracy_class_0"].tolist()
    known = load_history(seldom.folder).dropna(subset=["accuracy_test"])
    assert sorted(known["epoch"].unique()) == [3, 6]
    assert load_history(every.folder).merge(known, on=["cell_id", "epoch", "accuracy_test"]).shape[0] == len(known)


def test_a_further_swept_field_is_a_column_and_null_where_it_does_not_act(tmp_path: Path) -> None:
    text = TINY.replace("[el2n, gradmatch]", "[el2n, {name: el2n, balanced: true}]")
    runs, _ = tables(run(tiny(tmp_path, text)))
    assert runs.loc[runs["selector"] == "none", "selector.balanced"].isna().all()
    assert set(runs.loc[runs["selector"] == "el2n", "selector.balanced"]) == {True, False}


def test_a_warm_up_that_follows_from_the_coreset_ratio_is_no_column(tmp_path: Path) -> None:
    text = TINY.replace("  warmup_epochs: 1\n", "").replace("[1, 0.25]", "[1, 0.25, 0.5]")
    runs, _ = tables(run(tiny(tmp_path, text, "axes.seed=[0]")))
    assert "warmup_epochs" not in runs
    runs, _ = tables(run(tiny(tmp_path, TINY, "axes.seed=[0]", "axes.warmup_epochs=[1,3]")))
    assert set(runs["warmup_epochs"].dropna()) == {1, 3}


def test_a_warm_up_left_open_is_one_variant_beside_a_given_one(tmp_path: Path) -> None:
    """It is 1 epoch at a quarter and 2 at a half: written as numbers, each ratio would be a grid of its own."""
    text = TINY.replace("  warmup_epochs: 1\n", "").replace("[1, 0.25]", "[1, 0.25, 0.5]")
    runs, _ = tables(run(tiny(tmp_path, text, "axes.seed=[0]", "axes.warmup_epochs=[null,3]")))
    reduced = runs[runs["coreset_ratio"] < 1]
    assert set(reduced["warmup_epochs"]) == {"null", "3"}
    assert set(reduced.loc[reduced["warmup_epochs"] == "null", "coreset_ratio"]) == {0.25, 0.5}


def test_the_tables_are_whole_when_every_cell_failed(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    for cell in sweep.cells.cells:
        sweep.store.fail(sweep.end(cell.cell_id), Failure(cell.cell_id, "RuntimeError: no"))
    sweep.folder.mkdir(exist_ok=True)
    write_tables(sweep)
    assert set(load_runs(sweep.folder)["status"]) == {"failed"}


def test_a_diverged_cell_is_finished(tmp_path: Path) -> None:
    runs, _ = tables(run(tiny(tmp_path, BROKEN, "axes.seed=[0]")))
    diverged = runs[runs["reason"] == "diverged"]
    assert len(diverged) >= 2
    assert set(diverged["status"]) == {"finished"}


def test_a_diverged_cell_counts_at_chance_whatever_its_last_epoch_said(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path))
    cell = sweep.cells.cells[0]
    rows, diverged = sweep.history(cell) or ([], True)
    assert not diverged
    assert rows[-1]["accuracy_test"] > 0.5
    accuracies = {k: v for k, v in _outcome(sweep, cell, rows, True).items() if k.startswith("accuracy_")}
    assert set(accuracies) >= {"accuracy_test", "accuracy_val", "accuracy_worst_class", "accuracy_class_3"}
    assert set(accuracies.values()) == {0.25}
    assert _outcome(sweep, cell, rows, False)["accuracy_test"] == rows[-1]["accuracy_test"]


def test_a_failed_cell_is_a_row_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.coresets import SELECTORS

    def broken(*_: object, **__: object) -> None:
        raise ArithmeticError("the selector is broken")

    sweep, told = tiny(tmp_path), Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(SELECTORS["gradmatch"], "select", broken)
        run(sweep, told)
    runs, history = tables(sweep)
    failed = runs[runs["status"] == "failed"]
    assert set(failed["reason"]) == {"ArithmeticError: the selector is broken"}
    assert set(failed["selector"]) == {"gradmatch"}
    assert len(runs) == 12
    # The first selection, in epoch 2, fails: epoch 1 is what they cost, and all that they have to show.
    assert set(history.loc[history["cell_id"].isin(failed["cell_id"]), "epoch"]) == {1}
    assert runs["flops_dense"].sum() == pytest.approx(history["flops_dense"].sum())
    assert [call for call, _ in told.calls].count("finished") == 12 - len(failed)
    assert run(sweep).to_do() == ()
    assert set(tables(sweep)[0]["status"]) == {"finished"}


def test_a_sweep_of_which_nothing_ran_has_empty_tables(tmp_path: Path) -> None:
    assert [len(table) for table in tables(tiny(tmp_path))] == [0, 0]


def test_a_setting_that_is_a_number_here_and_a_mapping_there_is_one_column_of_text(tmp_path: Path) -> None:
    axis = "axes.pruner=[{name: rigl, update_every: 4}, {name: rigl, update_every: {per_interval: 2}}]"
    sweep = run(tiny(tmp_path, TINY, axis, "axes.seed=[0]", "axes.selector=[el2n]"))
    write_tables(sweep)
    assert set(load_runs(sweep.folder)["pruner.update_every"].dropna()) == {"4", "per_interval: 2"}
