"""Which runs belong together, and which controls a joint cell gets."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.cost import points
from analysis.facets import arrange, find_keys, match, roles, side_of
from analysis.panels import heatmaps
from analysis.runs import load_runs
from analysis.surface import surface
from analysis.synergy import synergy
from tests.analysis.synthetic_runs import grid, realistic, run, table, write

CELLS = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.6]}


TOGETHER, APART = "rigl (fc_prune_rate=null)", "rigl (fc_prune_rate=0.9)"


def classifier_rates(*rates: float | None, p: float = 0.9) -> list[dict[str, Any]]:
    """Prune-only and joint cells at each classifier rate: 0.8 and 0.6 at the first, 0.5 and 0.2 at the second."""
    rows = []
    for rate, (pruned, joint) in zip(rates, ((0.8, 0.6), (0.5, 0.2)), strict=False):
        rows += grid({(p, 1.0): [pruned], (p, 0.1): [joint]}, fc_prune_rate=rate)
    return rows


def gain(runs: pd.DataFrame, measure: str, **where: Any) -> float:
    rows = synergy(runs)
    rows = rows[rows["measure"] == measure]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


@pytest.mark.parametrize(
    ("column", "side"),
    [
        ("pruner.update_every", "pruner"),
        ("fc_prune_rate", "pruner"),
        ("scope", "pruner"),
        ("selector.balanced", "selector"),
        ("preservation_weight", "preservation"),
        ("select_every", "schedule"),
        ("warmup_epochs", "schedule"),
        ("data.label_noise", "experiment"),
        ("lr", "experiment"),
        ("accuracy_class_3", "record"),
        ("n_test", "record"),
        ("flops_sparse", "record"),
        ("sweep", "record"),
    ],
)
def test_side_of_a_column(column: str, side: str) -> None:
    assert side_of(column) == side


def test_roles_go_by_names_not_by_rates() -> None:
    runs = table(
        [
            run(0.0, 1.0, 0, 0.9),
            run(0.0, 1.0, 0, 0.9, pruner="rigl", fc_prune_rate=0.5),
            run(0.0, 0.1, 0, 0.9),
            run(0.0, 0.1, 0, 0.9, pruner="rigl", fc_prune_rate=0.5),
        ]
    )
    assert roles(runs).tolist() == ["dense", "prune_only", "coreset_only", "joint"]


def test_labels_show_only_swept_fields() -> None:
    grids = arrange(realistic()).facets
    assert set(grids["selector"]) == {"el2n (balanced=False)", "el2n (balanced=True)"}
    assert set(grids["pruner"]) == {"rigl"}
    assert set(grids["preservation"]) == {"none", "complete"}


def test_a_rate_that_follows_the_prune_rate_is_no_variant() -> None:
    rows = [
        r | {"fc_prune_rate": r["prune_rate"]}
        for p in (0.5, 0.9)
        for r in grid({(0.0, 1.0): [0.9], (p, 1.0): [0.8], (p, 0.1): [0.6]})
    ]
    assert find_keys(table(rows)).pruner == ("pruner",)
    other = [r | {"fc_prune_rate": 0.0} for r in rows]
    assert find_keys(table(rows + other)).pruner == ("pruner", "fc_prune_rate")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_classifier_pruned_with_the_rest_is_a_treatment_of_its_own(tmp_path: Path, kind: str) -> None:
    """A null rate of a pruned run acts (all layers share one budget); in an unpruned run it does not."""
    rows = [*grid({(0.0, 1.0): [0.9], (0.0, 0.1): [0.7]}), *classifier_rates(None, 0.9)]
    runs = load_runs(write(tmp_path, table(rows), kind))
    assert set(arrange(runs).facets["pruner"]) == {TOGETHER, APART}
    assert gain(runs, "gain_over_pruning", pruner=TOGETHER) == pytest.approx(0.6 - 0.8)
    assert gain(runs, "gain_over_pruning", pruner=APART) == pytest.approx(0.2 - 0.5)
    for pruner, joint in ((TOGETHER, 0.6), (APART, 0.2)):
        assert gain(runs, "gain_over_coreset", pruner=pruner) == pytest.approx(joint - 0.7)
    assert set(points(runs).query("role == 'prune_only'")["pruner"]) == {TOGETHER, APART}
    assert set(points(runs).query("role == 'dense'")["pruner"]) == {"none"}


def test_a_classifier_that_is_always_pruned_with_the_rest_is_no_variant() -> None:
    runs = table([*grid(CELLS), *classifier_rates(None)]).assign(fc_prune_rate=None)
    assert set(arrange(runs).facets["pruner"]) == {"rigl"}


def test_a_rate_that_is_null_at_some_prune_rates_follows_none() -> None:
    rows = grid({(0.0, 1.0): [0.9]}) + classifier_rates(None) + classifier_rates(0.5, p=0.5)
    assert set(arrange(table(rows)).facets["pruner"]) == {TOGETHER, "rigl (fc_prune_rate=0.5)"}


def test_a_classifier_rate_does_not_act_under_another_scope() -> None:
    rows = grid({(0.0, 1.0): [0.9]}) + [r | {"scope": "all"} for r in classifier_rates(None, 0.9)]
    rows += [r | {"scope": "backbone"} for r in classifier_rates(None)]
    expected = {f"rigl (fc_prune_rate={rate}, scope=all)" for rate in ("null", "0.9")} | {"rigl (scope=backbone)"}
    assert set(arrange(table(rows)).facets["pruner"]) == expected


@pytest.mark.parametrize("hundred", [100, "100"])
def test_a_setting_may_be_a_number_here_and_words_there(tmp_path: Path, hundred: object) -> None:
    rows = grid({(0.0, 1.0): [0.9], (0.0, 0.1): [0.7]})
    for every, pruned in ((hundred, 0.8), ("per_interval: 5", 0.6)):
        rows += grid({(0.5, 1.0): [pruned], (0.5, 0.1): [0.5]}, **{"pruner.update_every": every})
    runs = load_runs(write(tmp_path, table(rows)))
    assert set(arrange(runs).facets["pruner"]) == {"rigl (update_every=100)", "rigl (update_every=5 per interval)"}
    assert gain(runs, "gain_over_pruning", pruner="rigl (update_every=100)") == pytest.approx(-0.3)
    assert gain(runs, "gain_over_pruning", pruner="rigl (update_every=5 per interval)") == pytest.approx(-0.1)


def test_variants_are_ordered_by_their_numbers() -> None:
    rows = grid({(0.0, 1.0): [0.9]})
    for every in (100, 5, 20):
        rows += grid({(0.5, 1.0): [0.8], (0.5, 0.1): [0.5]}, **{"pruner.update_every": every})
    rows += grid({(0.5, 1.0): [0.8], (0.5, 0.1): [0.5]}, pruner="probmask")
    runs = table(rows)
    shown = [column.split(")")[0] for column in heatmaps(surface(runs), synergy(runs))[0].columns]
    assert shown == ["probmask × el2n", *(f"rigl (update_every={every}" for every in (5, 20, 100))]


def test_pruner_and_selector_parameters_choose_the_controls() -> None:
    rows = grid({(0.0, 1.0): [0.9]})
    for every, pruned in ((5, 0.8), (100, 0.85)):
        rows.append(run(0.5, 1.0, 0, pruned, **{"pruner.update_every": every}))
        for balanced, cored in ((False, 0.6), (True, 0.7)):
            fields = {"pruner.update_every": every, "selector.balanced": balanced}
            rows.append(run(0.5, 0.1, 0, 0.5, **fields))
            if every == 5:
                rows.append(run(0.0, 0.1, 0, cored, **{"selector.balanced": balanced}))
    runs = table(rows)
    where = {"pruner": "rigl (update_every=100)", "selector": "el2n (balanced=True)"}
    assert gain(runs, "gain_over_pruning", **where) == pytest.approx(0.5 - 0.85)
    assert gain(runs, "gain_over_coreset", **where) == pytest.approx(0.5 - 0.7)


def test_null_matches_anything() -> None:
    """select_every does not act without a coreset: one prune-only run serves both schedules."""
    rows = grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.8]})
    for every, cored in ((5, 0.7), (10, 0.6)):
        rows += grid({(0.0, 0.1): [cored], (0.5, 0.1): [0.5]}, select_every=every)
    runs = table(rows)
    assert gain(runs, "additive", select_every=5) == pytest.approx(0.5 - 0.8 - 0.7 + 0.9)
    assert gain(runs, "additive", select_every=10) == pytest.approx(0.5 - 0.8 - 0.6 + 0.9)


def test_a_null_experiment_field_matches_anything_too() -> None:
    left = pd.DataFrame({"a": [1, 2, None], "b": ["x", "x", "y"]}).astype({"a": "Int64"})
    right = pd.DataFrame({"a": [1, None], "b": ["x", "x"]}).astype({"a": "Int64"})
    pairs = match(left, right, ["a", "b"])
    assert set(map(tuple, pairs.to_numpy().tolist())) == {(0, 0), (0, 1), (1, 1)}


def test_another_experiment_is_no_control() -> None:
    rows = [*grid(CELLS, model="cnn"), *grid({(0.5, 0.1): [0.5]}, model="mlp")]
    found = synergy(table(rows)).query("model == 'mlp'")
    assert found["value"].isna().all()
    assert found.query("measure == 'additive'")["note"].iloc[0].count("no finished") == 3


def test_the_control_without_preservation_is_preferred_and_shown() -> None:
    rows = [
        *grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7]}),
        *grid({(0.0, 0.1): [0.75], (0.5, 0.1): [0.6]}, preservation="complete"),
    ]
    found = synergy(table(rows)).query("measure == 'gain_over_coreset'").iloc[0]
    assert (found["value"], found["control_preservation"]) == (pytest.approx(-0.1), "none")
    rows[2] |= {"status": "failed", "accuracy_test": None}
    found = synergy(table(rows)).query("measure == 'gain_over_coreset'").iloc[0]
    assert (found["value"], found["control_preservation"]) == (pytest.approx(-0.15), "complete")


def test_classifier_pruning_at_backbone_rate_zero_keeps_its_own_row() -> None:
    rows = grid({(0.0, 1.0): [0.9], (0.0, 0.1): [0.7]})
    rows += grid({(0.0, 1.0): [0.88], (0.0, 0.1): [0.65]}, pruner="rigl", fc_prune_rate=0.5)
    runs = table(rows)
    assert gain(runs, "gain_over_coreset") == pytest.approx(-0.05)
    assert gain(runs, "gain_over_pruning") == pytest.approx(0.65 - 0.88)


def test_baselines_without_joint_cells_form_facets_of_their_own() -> None:
    runs = table(grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7]}))
    grids = arrange(runs)
    assert not grids.facets["joint"].any()
    assert set(zip(grids.facets["pruner"], grids.facets["selector"], strict=True)) == {
        ("rigl", "none"),
        ("none", "el2n"),
    }
    assert synergy(runs).empty


def test_epochs_of_a_diverged_run_are_no_setting() -> None:
    rows = grid(CELLS)
    rows[3] |= {"epochs": 7, "reason": "diverged"}
    assert "epochs" not in find_keys(table(rows)).experiment
    assert find_keys(table([*rows, *grid(CELLS, epochs=80)])).experiment == ("data", "model", "epochs")


@pytest.mark.parametrize("reason", ["diverged", "out of memory"])
def test_a_swept_field_tells_runs_apart_where_all_at_one_value_came_to_nothing(reason: str) -> None:
    """At the higher learning rate every run diverged, which counts at chance, or failed: not in the other's means."""
    fine = grid(CELLS, lr=0.05)
    diverged = reason == "diverged"
    broken = [run(p, ratio, 0, 0.1 if diverged else None, lr=0.5, reason=reason) for p, ratio in CELLS]
    runs = table([*fine, *broken])
    assert "lr" in find_keys(runs).experiment
    found = surface(runs)
    at = found[(found["lr"] == 0.05) & (found["role"] == "joint")].iloc[0]
    assert (at["mean"], at["n"], at["n_failed"]) == (pytest.approx(0.6), 1, 0)


def test_where_a_run_was_cut_is_no_setting_but_what_is_running_has_one() -> None:
    cut = table([*grid(CELLS), run(0.5, 0.1, 1, 0.1, epochs=7, reason="diverged")])
    assert "epochs" not in find_keys(cut).experiment
    under_way = table([*grid(CELLS), *(run(p, a, 0, None, epochs=80, status="running") for p, a in CELLS)])
    assert "epochs" in find_keys(under_way).experiment
