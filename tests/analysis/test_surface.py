"""The measured surface."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.runs import TableError
from analysis.surface import surface
from tests.analysis.synthetic_runs import grid, realistic, run, table


def at(frame: pd.DataFrame, p: float, ratio: float) -> pd.Series:
    rows = frame[(frame["prune_rate"] == p) & (frame["coreset_ratio"] == ratio)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_mean_sd_and_interval() -> None:
    values = [0.80, 0.82, 0.87, 0.81]
    row = at(surface(table(grid({(0.0, 1.0): values}))), 0.0, 1.0)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert row["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(interval), abs=1e-12)
    assert row["n"] == 4


def test_missing_stay_missing_failed_and_stopped_are_counted() -> None:
    rows = grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.9, 1.0): [0.7], (0.0, 0.1): [0.6], (0.5, 0.1): [0.5]})
    rows += [run(0.5, 0.1, 1, None), run(0.5, 0.1, 2, None, status="stopped", accuracy_test=0.99)]
    found = surface(table(rows))
    assert len(found) == 6
    empty, partial = at(found, 0.9, 0.1), at(found, 0.5, 0.1)
    assert empty["n"] == 0
    assert np.isnan(empty["mean"])
    assert empty["n_failed"] == 0
    assert (partial["mean"], partial["n"], partial["n_failed"], partial["n_stopped"]) == (0.5, 1, 1, 1)
    assert np.isnan(partial["lo"])


def test_a_diverged_run_counts_at_chance() -> None:
    rows = [run(0.0, 1.0, 0, 0.9), run(0.0, 1.0, 1, 0.1, reason="diverged")]
    assert at(surface(table(rows)), 0.0, 1.0)["mean"] == pytest.approx(0.5)


def test_controls_appear_in_every_facet_baselines_first() -> None:
    found = surface(realistic())
    for _, facet in found.groupby(["selector", "preservation"]):
        assert len(facet) == 20
        assert facet["role"].iloc[0] == "dense"
        assert facet["coreset_ratio"].head(4).tolist() == [1.0, 0.2, 0.1, 0.05]
    assert (found["n"] == 0).sum() == 2
    assert found["n_failed"].sum() == 3
    kept = found.query("role == 'coreset_only'")["control_preservation"]
    assert set(kept) == {"none"}


def test_any_metric_and_a_wrong_one() -> None:
    assert surface(realistic(), "seconds")["mean"].max() == pytest.approx(600)
    with pytest.raises(TableError, match=r"no numeric column speed; choose one of .*seconds"):
        surface(realistic(), "speed")


@settings(max_examples=5, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_row_order_does_not_matter(order) -> None:  # noqa: ANN001
    runs = realistic(seeds=2)
    rows = list(runs.index)
    order.shuffle(rows)
    pd.testing.assert_frame_equal(surface(runs.loc[rows]), surface(runs))


def test_seeds_that_agree_give_no_interval() -> None:
    """As for a contrast: a width of zero would claim a certainty that equal numbers do not give."""
    row = surface(table(grid({(0.0, 1.0): [0.1, 0.1, 0.1]}))).iloc[0]
    assert (row["mean"], row["n"]) == (pytest.approx(0.1), 3)
    assert pd.isna(row["lo"])
    assert pd.isna(row["hi"])
