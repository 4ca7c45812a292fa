"""The forest as it is run: the same bits with and without sharing; budgets, early stopping, retries, stores."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from core.data.bundle import Bundle
from core.state import dump
from core.trainer import Trainer
from orchestration import keeping
from orchestration.attempt import attempt
from orchestration.budget import parse as parse_budget
from orchestration.dispatch import DEATHS, Budget, Dispatch
from orchestration.errors import UsageError
from orchestration.files import open_files, temporary_name
from orchestration.inline import run_inline
from orchestration.observer import Report
from orchestration.store import Failure, Store
from orchestration.sweep import Sweep, prepare
from orchestration.tables import tables, totals
from orchestration.views import planned
from sweeps.policy import Need
from sweeps.spec import parse
from tests.orchestration.grids import TINY, Recorder, dispatch, run, timeless, tiny
from tests.orchestration.test_cli import call

FIELDS = [
    "axes.coreset_ratio=[1, 0.25, 0.4]",
    "axes.selector=[el2n, gradmatch, moderate, forgetting, random]",
    "axes.selector=[infobatch, {name: infobatch, until: 0.5}, emp, {name: emp, memory: 3.0}, el2n]",
    "axes.selector=[ted, {name: ted, until: 1.0}, pbcs, {name: pbcs, rounds: 2}]",
    "axes.preservation=[none, selective, complete]",
    "axes.preservation_weight=[0.1, 0.5]",
    "axes.preservation_from=[null, 3, 6]",
    "axes.warmup_epochs=[0, 1, 3]",
    "axes.select_every=[2, 3]",
    "axes.schedule=[printed, skip]",
    "axes.prune_rate=[0.5, 0.8]",
    "axes.lr=[0.05, 0.1]",
    "axes.batch_size=[32, 48]",
    "axes.scope=[all, backbone]",
    "axes.pruner=[rigl, {name: gmp, start: 0.4, update_every: 2}, snip]",
    "axes.augmentation=[none, crop_flip]",
    "axes.data.label_noise=[0.0, 0.2]",
    "axes.fc_prune_rate=[null, 0.5]",
    "axes.prune_rate=[0.5]; axes.fc_prune_rate=[null, 0.3, 0.5]; axes.pruner=[{name: channels, start: 0.5}]",
    "axes.prune_rate=[0.5]; axes.fc_prune_rate=[null, 0.3]; axes.pruner=[{name: rows, start: 0.5}]; model={name: mlp}",
    "axes.fc_prune_rate=[null, 0.5]; axes.pruner=[{name: gmp, start: 0.5}, {name: probmask, start: 0.5}]",
    "axes.model=[{name: small_cnn, width: 4}, {name: mlp, hidden: [8]}]",
    "axes.momentum=[0.5, 0.9]",
    "axes.weight_decay=[0.0, 0.001]",
    "axes.epochs=[4, 6]",
    "axes.seed=[0, 1]",
]


def results(sweep: Sweep) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs, history = tables(sweep)
    return timeless(runs), timeless(history)


@pytest.mark.parametrize("axis", FIELDS)
def test_sharing_changes_no_bit_whatever_field_differs(tmp_path: Path, axis: str) -> None:
    usual = ["axes.seed=[0]", "axes.selector=[el2n]", "axes.prune_rate=[0.8]", "axes.coreset_ratio=[0.25]"]
    grid = [value for value in usual if f"{value.partition('=')[0]}=" not in axis]
    grid += [] if "preservation_" not in axis else ["preservation=complete"]
    spec = parse(TINY, overrides=[*grid, *axis.split("; ")])
    together, apart = run(prepare(spec, tmp_path / "a")), run(prepare(spec, tmp_path / "b", sharing=False))
    for ours, theirs in zip(results(together), results(apart), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    assert totals(apart)["executed/flops_dense"] == pytest.approx(totals(apart)["alone/flops_dense"])


def test_every_segment_is_trained_once(tmp_path: Path) -> None:
    sweep = tiny(tmp_path)
    plan = planned(sweep)
    told = Recorder()
    run(sweep, told)
    trained = [(report.cell_id, report.epoch) for report in told.reports]
    assert len(trained) == plan.shared.epochs < plan.alone.epochs
    assert totals(sweep)["executed/flops_dense"] < totals(sweep)["alone/flops_dense"]
    assert planned(sweep).shared.epochs == 0


def test_the_executed_work_is_what_the_plan_foretold(tmp_path: Path) -> None:
    sweep, told = tiny(tmp_path), Recorder()
    plan = planned(sweep)
    run(sweep, told)
    spent: dict[str, float] = {}
    for report in told.reports:
        spent[report.cell_id] = report.flop
    assert sum(spent.values()) == pytest.approx(plan.shared.flop, rel=1e-6)


def test_cells_with_one_chain_are_trained_once_and_both_are_finished(tmp_path: Path) -> None:
    one = "axes: {warmup_epochs: [0, 1], coreset_ratio: [0.25], prune_rate: [0.8]}\nbaselines: false\n"
    sweep, told = (
        tiny(tmp_path, TINY.partition("axes:")[0].replace("  warmup_epochs: 1\n", "  selector: el2n\n") + one),
        Recorder(),
    )
    run(sweep, told)
    assert len(told.reports) == 6
    assert len([call for call, _ in told.calls if call == "finished"]) == 2
    assert len(results(sweep)[0]) == 2


def test_a_time_budget_stops_and_the_same_again_goes_on_to_the_same_end(tmp_path: Path) -> None:
    sweep, told = tiny(tmp_path / "a"), Recorder()
    todo = sweep.to_do()
    hands = Dispatch(sweep, planned(sweep), todo, told, Budget(seconds=0.2))
    started = time.monotonic()
    run_inline(hands)
    assert hands.exhausted
    assert not hands.over
    assert time.monotonic() - started < 30
    run(sweep)
    for ours, theirs in zip(results(sweep), results(run(tiny(tmp_path / "b"))), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_a_budget_of_flops_stops_where_it_is_spent(tmp_path: Path) -> None:
    sweep, told = tiny(tmp_path), Recorder()
    plan = planned(sweep)
    hands = Dispatch(sweep, plan, sweep.to_do(), told, Budget(flop=plan.shared.flop / 2))
    run_inline(hands)
    largest = max(
        after - before
        for work in plan.works().values()
        for before, after in zip(work.flop, work.flop[1:], strict=False)
    )
    last = {report.cell_id: report.flop for report in told.reports}
    assert plan.shared.flop / 2 <= sum(last.values()) <= plan.shared.flop / 2 + largest


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        (["2h"], Budget(7200.0, None)),
        (["1.5m", "3PFLOP"], Budget(90.0, 3e15)),
        (["300 TFLOP"], Budget(None, 3e14)),
        ([], Budget(None, None)),
    ],
)
def test_budgets(texts: list[str], budget: Budget) -> None:
    assert parse_budget(texts) == budget


@pytest.mark.parametrize("text", ["2", "h", "2 hours", "-1h", "3FLOPS", ""])
def test_a_budget_that_is_none_is_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="write a number and one of s, m, h, d, GFLOP"):
        parse_budget([text])


HARD = "early_stopping: {below: 1.0, patience: 2, after: 1}\n"


def test_stopped_cells_are_rows_of_their_own_and_baselines_go_on(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY + HARD, "axes.seed=[0]", "data.spread=9.0"))
    runs, _ = tables(sweep)
    joint = (runs["prune_rate"] > 0) & (runs["coreset_ratio"] < 1)
    assert set(runs.loc[joint, "status"]) == {"stopped"}
    assert set(runs.loc[~joint, "status"]) == {"finished"}
    assert runs.loc[joint, "reason"].str.contains("validation accuracy below 1 from epoch 2 to 3").all()
    assert runs.loc[joint, "accuracy_test"].isna().all()
    assert sweep.to_do() == ()
    without = tiny(tmp_path, TINY, "axes.seed=[0]", "data.spread=9.0")
    assert len(without.to_do()) == joint.sum()
    assert set(tables(run(without))[0]["status"]) == {"finished"}


def test_only_evaluated_epochs_stop_a_cell(tmp_path: Path) -> None:
    runs, _ = tables(run(tiny(tmp_path, TINY + HARD, "axes.seed=[0]", "data.spread=9.0", "evaluate_every=2")))
    stopped = runs[runs["status"] == "stopped"]
    assert len(stopped)
    assert stopped["reason"].str.contains("validation accuracy below 1 from epoch 3 to 5").all()


def test_a_lost_worker_is_replaced_three_times_and_then_the_cell_has_failed(tmp_path: Path) -> None:
    sweep, told = tiny(tmp_path, TINY, "axes.prune_rate=[0]", "axes.coreset_ratio=[1]", "axes.seed=[0]"), Recorder()
    hands = dispatch(sweep, told)
    for _ in range(DEATHS + 1):
        cell = hands.next()
        assert cell is not None
        hands.died(cell)
    assert [call for call, _ in told.calls] == ["retried"] * DEATHS + ["failed"]
    assert hands.over
    failure = sweep.failure(cell)
    assert failure is not None
    assert failure.reason == f"the worker process died, {DEATHS + 1} times"


def test_out_of_memory_is_tried_again_once_on_a_whole_device(tmp_path: Path) -> None:
    one = ["axes.prune_rate=[0]", "axes.coreset_ratio=[1]", "axes.seed=[0]"]
    sweep, told = tiny(tmp_path, TINY, "resources.gpus=0.25", *one), Recorder()
    hands = dispatch(sweep, told)
    for _ in range(2):
        cell = hands.next()
        assert cell is not None
        hands.told(Report(cell, ended="out of memory", reason="OutOfMemoryError: CUDA"))
    assert [call for call, _ in told.calls] == ["retried", "failed"]
    assert hands.needs_whole_device(cell)


def test_gc_keeps_what_a_plan_names_and_nothing_is_trained_again(tmp_path: Path) -> None:
    alone = run(tiny(tmp_path))
    before = results(alone)
    smaller = tiny(tmp_path, TINY, "axes.selector=[el2n]", "axes.coreset_ratio=[0.25]", "axes.seed=[0]")
    keeping.remember(smaller)
    store = smaller.store
    dropped = keeping.garbage(store)
    assert dropped
    for state in dropped:
        store.drop(state.stage, state.epoch)
    assert keeping.garbage(store) == ()
    assert smaller.to_do() == ()
    after = results(smaller)[0].set_index("cell_id")["accuracy_test"]
    assert after.to_dict() == before[0].set_index("cell_id")["accuracy_test"].loc[after.index].to_dict()


def test_gc_takes_what_is_damaged_or_half_there_and_leaves_the_rest(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY, "axes.seed=[0]"))
    store = sweep.store
    assert keeping.litter(store) == ()
    folder = next(sweep.folder.rglob("*.state")).parent
    (folder / "00004.json.damaged").write_bytes(b"{")
    half = folder / "00099.state", temporary_name(folder / "00100.state")
    for path in half:
        path.write_bytes(b"killed while it was written, or before its rows were")
    assert len(keeping.litter(store)) == 1, "somebody may be writing them"
    for path in half:
        os.utime(path, (0, 0))
    assert len(keeping.litter(store)) == 3
    told = call("store", "gc", sweep.folder / "store", "--yes")
    assert "3 damaged files or halves of a state" in told
    assert keeping.litter(store) == ()
    assert not set(folder.iterdir()) & {*half, folder / "00004.json.damaged"}
    assert sweep.to_do() == ()


@pytest.mark.parametrize("place", ["memory://ages/store", "folder"])
def test_a_file_has_an_age(place: str, tmp_path: Path) -> None:
    files = open_files(place if "://" in place else tmp_path / place)
    files.write("a/b", b"1")
    assert 0 <= files.age("a/b") < 60
    assert files.age("a/c") == 0


def test_sweeps_of_one_name_in_one_store_keep_what_both_need(tmp_path: Path) -> None:
    place = tmp_path / "store"
    one = run(prepare(parse(TINY, overrides=["axes.seed=[0]"]), tmp_path / "a", store=place))
    run(prepare(parse(TINY, overrides=["axes.seed=[1]"]), tmp_path / "b", store=place))
    for state in keeping.garbage(one.store):
        one.store.drop(state.stage, state.epoch)
    assert prepare(parse(TINY, overrides=["axes.seed=[0]"]), tmp_path / "a", store=place).to_do() == ()


def test_a_last_state_that_leans_on_a_lost_trunk_is_trained_again(tmp_path: Path) -> None:
    """The dense run is stored in two parts while other cells branch off it; alone, it is one part again."""
    dense = ["axes.prune_rate=[0]", "axes.seed=[0]"]
    both = run(tiny(tmp_path, TINY, *dense))
    alone = tiny(tmp_path, TINY, *dense, "axes.coreset_ratio=[1]")
    (cell,) = alone.cells.cells
    before = results(both)[1].query(f"cell_id == '{cell.cell_id}'").reset_index(drop=True)
    trunk, leaf = both.chains[cell.cell_id]
    assert trunk.stage == leaf.stage
    both.store.drop(trunk.stage, trunk.last)
    run(alone)
    again = tiny(tmp_path, TINY, *dense, "axes.coreset_ratio=[1]")
    assert again.to_do() == ()
    after = results(again)[1]
    pd.testing.assert_frame_equal(after, before[[*after.columns]], check_dtype=False)


def test_gc_without_any_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no plan of a sweep"):
        keeping.garbage(Store(tmp_path))


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY, "axes.seed=[0]"))
    assert keeping.damaged(sweep.store) == ()
    path = sorted(sweep.folder.rglob("*.state"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert len(keeping.damaged(sweep.store)) == 1
    assert keeping.damaged(sweep.store) == ()


def test_verify_finds_a_missing_checkpoint_and_the_next_run_trains_it_again(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY, "axes.seed=[0]"))
    before = results(sweep)
    end = sweep.chains[sweep.cells.cells[0].cell_id][-1]
    sweep.store.files.remove(f"segments/{end.stage[:2]}/{end.stage}/{end.last:05d}.state")
    assert [(state.stage, state.epoch) for state in keeping.damaged(sweep.store)] == [(end.stage, end.last)]
    assert keeping.damaged(sweep.store) == ()
    again = tiny(tmp_path, TINY, "axes.seed=[0]")
    assert [cell.cell_id for cell in again.to_do()] == [sweep.cells.cells[0].cell_id]
    for ours, theirs in zip(results(run(again)), before, strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    assert keeping.damaged(again.store) == (), "what was set aside before is not damaged once more"


def test_half_a_plan_that_a_killed_command_left_is_no_plan(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY, "axes.seed=[0]"))
    held, half = list(keeping.held(sweep.store)), sweep.folder / "store" / "plans" / ".tiny.json.node.7.tmp"
    half.write_text("[")
    assert list(keeping.held(sweep.store)) == held
    assert keeping.litter(sweep.store) == ()
    os.utime(half, (0, 0))
    assert keeping.litter(sweep.store) == ("plans/.tiny.json.node.7.tmp",)


def test_a_store_that_cannot_be_read_for_a_while_fails_cells_and_not_the_sweep(tmp_path: Path) -> None:
    sweep, told = tiny(tmp_path, TINY, "axes.seed=[0]"), Recorder()
    hands = dispatch(sweep, told)
    place = sweep.folder / "store"
    place.mkdir(parents=True)
    (place / "failures").symlink_to("failures")
    first, second = hands.next(), hands.next()
    assert first is not None
    assert second is not None
    hands.told(Report(first, ended="failed", reason="StoreError: cannot write"))
    hands.died(second)
    assert told.calls == [("failed", first), ("retried", second)]
    assert sweep.store.failure(sweep.end(first)) == Failure(first, "StoreError: cannot write")


@pytest.mark.parametrize(
    ("error", "ended"), [(ValueError("no such file"), "failed"), (torch.OutOfMemoryError("CUDA"), "out of memory")]
)
def test_data_that_do_not_reach_their_device_are_the_cells_failure(
    tmp_path: Path, error: Exception, ended: str
) -> None:
    sweep = tiny(tmp_path, TINY, "axes.seed=[0]")
    cell = sweep.cells.cells[0]

    def data() -> Bundle:
        raise error

    (report,) = attempt(sweep.job(cell), data, sweep.store)
    assert (report.ended, report.reason) == (ended, f"{type(error).__name__}: {error}")
    failure = sweep.failure(cell.cell_id)
    assert failure is not None
    assert failure.reason == report.reason


def test_sweeps_that_share_a_store_share_their_trunks(tmp_path: Path) -> None:
    place = tmp_path / "store"
    first = run(prepare(parse(TINY), tmp_path, store=place))
    other = prepare(parse(TINY, overrides=["name=other", "axes.coreset_ratio=[1, 0.25, 0.5]"]), tmp_path, store=place)
    plan = planned(other)
    assert len(plan.to_do) == len(other.cells.cells) - len(first.cells.cells)
    assert plan.shared.epochs == 5 * len(plan.to_do)
    assert not (tmp_path / "other" / "store").exists()
    run(other)
    assert other.to_do() == ()


def test_a_store_by_url(tmp_path: Path) -> None:
    spec = parse(TINY, overrides=["axes.seed=[0]"])
    remote = run(prepare(spec, tmp_path / "a", store="memory://bucket/sweep"))
    for ours, theirs in zip(results(remote), results(run(prepare(spec, tmp_path / "b"))), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    names = remote.store.files.names("segments")
    assert names
    assert remote.store.files.names("nothing") == []
    known = remote.snapshot()
    assert known.store.files.names("segments") == names
    assert known.to_do() == ()
    assert known.store.files.names("nothing") == []
    stage = next(iter(remote.chains.values()))[0]
    remote.store.files.write(f"segments/{stage.stage[:2]}/{stage.stage}/00001.json", b"{")
    assert remote.store.entry(stage.stage, 1) is None
    remote.store.drop(stage.stage, 1)
    assert remote.store.size(stage.stage, 1) == 0


def test_what_is_not_in_an_object_store_is_known_from_one_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse(TINY, overrides=["axes.seed=[0]"])
    sweep = prepare(spec, tmp_path, store="memory://bucket/empty").snapshot()
    monkeypatch.setattr(sweep.store.files, "_fs", None)  # whoever asks it now fails
    assert len(sweep.to_do()) == len(sweep.cells.cells)
    assert sweep.done(sweep.cells.cells) == frozenset()
    assert sweep.failure(sweep.cells.cells[0].cell_id) is None


def test_per_cell_resources_come_from_the_first_rule_that_fits(tmp_path: Path) -> None:
    rules = "[{where: {prune_rate: 0.8}, cpus: 2}, {where: {model.name: small_cnn}, gpus: 0.5}]"
    sweep = tiny(tmp_path, f"{TINY}resources: {{cpus: 1, rules: {rules}}}\n")
    needs = {cell.config.prune_rate: sweep.need(cell.config) for cell in sweep.cells.cells}
    assert (needs[0.8].cpus, needs[0.8].gpus, needs[0.8].threads, needs[0.8].device) == (2.0, 0.0, 2, "cpu")
    assert (needs[0.0].cpus, needs[0.0].gpus, needs[0.0].device) == (1.0, 0.5, "cuda")


def test_a_failure_is_no_sweep_that_names_a_state(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY + HARD, "axes.seed=[0]", "data.spread=9.0"))
    assert {state.named for state in keeping.held(sweep.store)} <= {0, 1}


@pytest.mark.parametrize("how", ["diverged", "stopped"])
def test_gc_keeps_what_ended_before_its_plan(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In epoch 5 of a segment to 6, or stopped in epoch 3: what the plan names is not there, this is all there is."""
    text = TINY
    if how == "diverged":
        monkeypatch.setattr("core.trainer._not_finite", lambda ended: "loss is nan" if ended.epoch == 5 else "")
    else:
        text += HARD
    given = [text, "axes.seed=[0]", "data.spread=9.0"]
    before = results(run(tiny(tmp_path, *given)))
    assert how in set(before[0]["status"]) | set(before[0]["reason"])
    sweep = tiny(tmp_path, *given)
    for state in keeping.garbage(sweep.store):
        sweep.store.drop(state.stage, state.epoch)
    assert sweep.to_do() == ()
    for ours, theirs in zip(results(sweep), before, strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_a_cell_stopped_in_a_trunk_costs_what_it_trained_and_not_what_others_did_after_it(tmp_path: Path) -> None:
    rule = "early_stopping: {below: 1.0, patience: 1, after: 1}\n"
    given = [TINY + rule, "axes.seed=[0]", "data.spread=9.0", "select_every=4", "warmup_epochs=3"]
    spec = parse(given[0], overrides=given[1:])
    together, apart = run(prepare(spec, tmp_path / "a")), run(prepare(spec, tmp_path / "b", sharing=False))
    runs, history = results(together)
    stopped = runs.loc[runs["status"] == "stopped", "cell_id"]
    assert len(stopped) == 2
    assert set(history.loc[history["cell_id"].isin(stopped), "epoch"]) == {1, 2}
    for ours, theirs in zip((runs, history), results(apart), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_cells_of_one_trunk_have_one_state_byte_by_byte(tmp_path: Path) -> None:
    spec = parse(TINY, overrides=["axes.seed=[0]", "axes.selector=[el2n]", "baselines=false"])
    sweep = prepare(spec, tmp_path)
    first = [cell for cell in sweep.cells.cells if cell.config.prune_rate > 0]
    stage = {sweep.chains[cell.cell_id][0].stage for cell in first}
    assert (len(first), len(stage)) == (2, 1)
    states = set()
    for cell in first:
        trainer = Trainer(cell.config, sweep.bundle(cell.config))
        list(trainer.events(until=1))
        states.add(dump(trainer.state()))
    assert len(states) == 1


def test_a_sweep_whose_name_is_a_number_in_yaml_is_found_again(tmp_path: Path) -> None:
    sweep = run(tiny(tmp_path, TINY, "name='20251127'", "axes.seed=[0]", "axes.selector=[el2n]"))
    (sweep.folder / "sweep.yaml").write_text(sweep.spec.text)
    assert "20251127: 4 of 4 cells done" in call("status", tmp_path / "20251127")


def test_what_does_not_fit_now_does_not_hold_the_place_of_what_does(tmp_path: Path) -> None:
    """One GPU and cells that need it beside cells that do not: the second asked for is one of those."""
    rules = "resources: {rules: [{where: {seed: 0}, gpus: 1}]}\n"
    hands = dispatch(tiny(tmp_path, TINY + rules, "axes.coreset_ratio=[1]", "axes.prune_rate=[0]"))
    room = Need(4.0, 1.0)
    ready = [hands.next(room) for _ in range(3)]
    assert {hands.need(cell).gpus for cell in ready if cell is not None} == {0.0, 1.0}
    assert ready[2] is None
    two = dispatch(tiny(tmp_path, TINY + rules, "axes.selector=[el2n]", "axes.prune_rate=[0, 0.5, 0.8]"))
    taken = [cell for _ in range(6) if (cell := two.next(Need(3.0, 1.0))) is not None]
    assert sorted(two.need(cell).gpus for cell in taken) == [0.0, 0.0, 1.0]
