"""Synergy by class: contrasts by hand, one family of tests, what is lost first, and the maps."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.classes import CELLS, CLASSES, at_chance, by_class, classes, losses, maps
from analysis.figures import heatmap
from analysis.latex import tables
from analysis.panels import COLOURED, MISSING, UNDEFINED, worst_class_maps
from analysis.surface import surface
from tests.analysis.synthetic_runs import run, table

TREATMENTS = {(0.0, 1.0): 0.9, (0.5, 1.0): 0.9, (0.9, 1.0): 0.8, (0.0, 0.2): 0.9, (0.0, 0.1): 0.8}
JOINT = {(0.5, 0.2): 0.9, (0.9, 0.2): 0.7, (0.5, 0.1): 0.7, (0.9, 0.1): 0.6}
GONE = {(0.9, 0.2): 0.1, (0.9, 0.1): 0.1}


def runs_of(seeds: int = 3, **fields: Any) -> pd.DataFrame:
    """Class 0 as accuracy, class 1 lost at a prune rate of 90 %, class 2 never touched; seeds differ a little."""
    rows = []
    for (p, ratio), accuracy in (TREATMENTS | JOINT).items():
        for seed in range(seeds):
            jitter = 0.004 * seed * (1 + p) * (2 - ratio)
            recall = (accuracy, GONE.get((p, ratio), 0.9), 0.9)
            told = {f"accuracy_class_{k}": y + jitter for k, y in enumerate(recall)}
            rows.append(run(p, ratio, seed, accuracy) | told | {"accuracy_worst_class": min(told.values())} | fields)
    return table(rows)


def test_bliss_of_a_class_by_hand() -> None:
    """(0.1 - 0.1)/0.8 - (0.9 - 0.1)/0.8 · (0.9 - 0.1)/0.8 = -1 for the class that is gone."""
    found = by_class(runs_of(1))
    assert found is not None
    assert len(found) == 3 * len(JOINT)
    value = found.set_index(["class", "prune_rate", "coreset_ratio"])["value"]
    assert value["1", 0.9, 0.2] == pytest.approx(-1)
    assert value["2", 0.9, 0.2] == pytest.approx(0)
    # Class 0: (0.7 - 0.1)/0.8 - (0.8 - 0.1)/0.8 · (0.9 - 0.1)/0.8 = 0.75 - 0.875.
    assert value["0", 0.9, 0.2] == pytest.approx(-0.125)


def test_q_is_over_all_classes_and_cells() -> None:
    found = by_class(runs_of(4))
    assert found is not None
    tested = found[found["p"].notna()]
    assert tested["q"].to_numpy() == pytest.approx(stats.false_discovery_control(tested["p"].to_numpy()))


def test_what_each_class_loses_and_where_first() -> None:
    found = by_class(runs_of(4))
    assert found is not None
    told = losses(found).set_index("class")
    assert list(told.index) == ["1", "0", "2"]
    assert told.loc["1", "cells_lost"] == 2
    assert told.loc["1", "first_lost_at"] == "90 / 20"  # (1 - 0.9) · 0.2 leaves more than (1 - 0.9) · 0.1
    assert told.loc["2", "cells_lost"] == 0
    assert told.loc["2", "first_lost_at"] == ""
    assert (told["cells"] == 4).all()


def test_a_diverged_run_is_at_chance_in_every_class() -> None:
    runs = runs_of(1, reason=None)
    runs.loc[0, "reason"] = "diverged"
    told = at_chance(runs.assign(accuracy_class_0=np.nan))
    assert told.loc[0, ["accuracy_class_0", "accuracy_class_1", "accuracy_worst_class"]].tolist() == [0.1] * 3
    assert told.loc[1:, "accuracy_class_0"].isna().all()


def test_missing_columns_are_said() -> None:
    bare = runs_of(2)[[name for name in runs_of(2) if not name.startswith(("accuracy_class", "accuracy_worst"))]]
    found = classes(bare)
    assert (found.heatmaps, found.synergy.empty, found.worst.empty) == ((), True, True)
    assert found.notes == (
        "Column accuracy_worst_class is missing: no surface of the worst class.",
        "Columns accuracy_class_0, ... are missing: no synergy by class.",
    )
    assert classes(runs_of(2)).notes == ()


def test_the_surface_of_the_worst_class() -> None:
    (info,) = worst_class_maps(surface(runs_of(2), "accuracy_worst_class"))
    assert info.name == "accuracy_worst_class"
    assert info.panels[0].value[2, 1] == pytest.approx(100 * (0.1 + (0.1 + 0.004 * 1.9 * 1.8)) / 2)


def test_the_map_by_class_names_its_axes_and_has_no_controls() -> None:
    found = by_class(runs_of(3))
    assert found is not None
    (info,) = maps(found)
    panel = info.panels[0]
    assert panel.prune_rates == ("0", "1", "2")
    assert panel.coreset_ratios == ("50 / 20", "50 / 10", "90 / 20", "90 / 10")
    assert panel.value[1, 2] == pytest.approx(-100, abs=2)
    assert (panel.state == COLOURED).all()
    axes = heatmap.draw(info).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prune rate / coreset ratio (%)", "preservation: none\nclass")
    assert not [line for line in axes.lines if line.get_linewidth() == 1]
    assert "Rows: class, columns: prune rate / coreset ratio (\\%)." in tables(info)


def test_a_cell_whose_control_failed_is_not_called_missing() -> None:
    runs = runs_of(3)
    failed = (runs["prune_rate"] == 0) & (runs["coreset_ratio"] == 0.1)
    found = by_class(runs.assign(status=runs["status"].mask(failed, "failed")))
    assert found is not None
    lacking = found["coreset_ratio"] == 0.1
    (info,) = maps(found[lacking | (found["prune_rate"] == 0.5)])
    states = dict(zip(info.panels[0].coreset_ratios, info.panels[0].state[0], strict=True))
    assert states == {"50 / 20": COLOURED}
    other = found.assign(selector="random")
    (info,) = maps(pd.concat([found[~lacking].assign(value=-0.1), other.assign(value=-0.2)]))
    by_name = {panel.column: panel for panel in info.panels}
    assert by_name["rigl × el2n"].state[0].tolist().count(MISSING) == 2
    (info,) = maps(pd.concat([found, other.assign(value=-0.2)]))
    by_name = {panel.column: panel for panel in info.panels}
    assert by_name["rigl × el2n"].state[0].tolist().count(UNDEFINED) == 2
    assert f"{2 * 3} undefined" in info.caption


def test_many_classes_and_cells_are_cut_to_those_that_lose_most() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for p in (0.0, 0.5, 0.8, 0.9):
        for ratio in (1.0, 0.5, 0.2, 0.1):
            recall = {f"accuracy_class_{k}": 0.9 - 0.005 * k * (p > 0) * (ratio < 1) for k in range(20)}
            rows.append(run(p, ratio, 0, 0.9) | recall)
    found = by_class(table(rows))
    assert found is not None
    gap = (found["class"] == "19") & (found["prune_rate"] == 0.9) & (found["coreset_ratio"] == 0.1)
    (info,) = maps(found[~gap].assign(value=found["value"] + rng.normal(0, 1e-6, len(found))))
    panel = info.panels[0]
    assert panel.value.shape == (CLASSES, CELLS)
    assert panel.prune_rates == tuple(str(k) for k in range(10, 20))
    if "90 / 10" in panel.coreset_ratios:
        assert panel.state[9, panel.coreset_ratios.index("90 / 10")] == MISSING
    assert "10 of 20 classes and 6 of 9 joint cells" in info.caption
