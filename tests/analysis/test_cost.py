"""Fronts, totals and contrasts at equal FLOPs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cost import pareto, points, totals
from analysis.equal_flops import equal_flops
from tests.analysis.synthetic_runs import grid, realistic, run, table

NUMBERS = st.integers(0, 8)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_pareto_by_definition(pairs: list[tuple[int, int]]) -> None:
    cost, value = pd.Series([float(c) for c, _ in pairs]), pd.Series([float(v) for _, v in pairs])
    front = pareto(cost, value)
    for k, (c, v) in enumerate(pairs):
        beaten = any((cc <= c and vv > v) or (cc < c and vv >= v) for cc, vv in pairs)
        assert not (front[k] and beaten)
        assert front[k] or beaten or pairs.index((c, v)) < k


def test_points_and_front() -> None:
    found = points(realistic())
    assert len(found) == 1 + 4 + 6 + 46
    assert set(found["role"]) == {"dense", "prune_only", "coreset_only", "joint"}
    front = found[found["front"]].sort_values("flops_relative")
    assert front["mean"].is_monotonic_increasing
    assert found.loc[found["mean"].idxmax(), "front"]


def test_points_without_flops_have_no_front() -> None:
    found = points(table(grid({(0.0, 1.0): [0.9, 0.8]})))
    assert "flops_relative" not in found
    assert not found["front"].any()
    assert found["n"].tolist() == [2]


def test_a_schedule_shares_the_front_with_its_baselines() -> None:
    rows = grid({(0.0, 1.0): [0.9]}, flops_relative=1.0)
    rows += [run(0.0, 0.1, 0, y, select_every=r, flops_relative=0.1) for r, y in ((5, 0.95), (10, 0.8))]
    found = points(table(rows)).set_index("mean")["front"]
    assert found.to_dict() == {0.9: False, 0.95: True, 0.8: False}


def test_experiments_have_fronts_of_their_own() -> None:
    rows = grid({(0.0, 1.0): [0.9]}, flops_relative=1.0) + grid({(0.0, 1.0): [0.5]}, flops_relative=1.0, model="cnn")
    found = points(table(rows))
    assert found["front"].all()
    assert set(found["experiment"]) == {"digits, mlp", "digits, cnn"}


def test_totals() -> None:
    found = totals(realistic()).set_index("status")
    assert found.loc["all", "runs"] == found.loc["finished", "runs"] + found.loc["failed", "runs"]
    assert found.loc["failed", "runs"] == 3
    assert found.loc["all", "seconds"] == pytest.approx(realistic()["seconds"].sum())


def flops_table(joint_flops: float) -> pd.DataFrame:
    """Front: (0.1, .6), (0.5, .8), (1, .9); a prune-only cell at 0.6 is dominated."""
    cells = {(0.0, 1.0): (1.0, 0.9), (0.5, 1.0): (0.6, 0.7), (0.0, 0.5): (0.5, 0.8),
             (0.0, 0.1): (0.1, 0.6), (0.5, 0.1): (joint_flops, 0.75)}  # fmt: skip
    return table(
        run(p, ratio, seed, y + shift, flops_relative=flops)
        for (p, ratio), (flops, y) in cells.items()
        for seed, shift in enumerate((-0.01, 0.0, 0.02))
    )


@pytest.mark.parametrize(
    ("flops", "front"),
    [(0.1, 0.6), (np.sqrt(0.1 * 0.5), 0.7), (0.5, 0.8), (np.sqrt(0.5), 0.85), (1.2, 0.9)],
)
def test_equal_flops_interpolates_along_the_front(flops: float, front: float) -> None:
    row = equal_flops(flops_table(flops)).iloc[0]
    assert row["value"] == pytest.approx(0.75 - front, abs=1e-9)
    assert (row["n"], row["flops_relative"], row["measure"]) == (3, pytest.approx(flops), "equal_flops")


def test_what_broke_early_is_not_cheap() -> None:
    """A seed of the cheapest single treatment, then all of a new one, diverge after a twentieth of their epochs."""
    whole = flops_table(0.5)
    early = whole.assign(reason=None, seconds=whole["flops_relative"])
    first = early.index[(early["prune_rate"] == 0) & (early["coreset_ratio"] == 0.1) & (early["seed"] == 0)]
    early.loc[first, ["reason", "accuracy_test", "flops_relative", "seconds"]] = ["diverged", 0.1, 0.005, 0.005]
    shown = points(early).set_index(["prune_rate", "coreset_ratio"]).loc[(0.0, 0.1)]
    assert (shown["flops_relative"], shown["seconds"], shown["n"]) == (pytest.approx(0.1), pytest.approx(0.1), 3)
    assert shown["mean"] == pytest.approx((0.1 + 0.6 + 0.62) / 3)
    dead = early[(early["prune_rate"] == 0.5) & (early["coreset_ratio"] == 1.0)]
    dead = dead.assign(prune_rate=0.7, reason="diverged", accuracy_test=0.1, flops_relative=0.01)
    more = table(pd.concat([early, dead]).drop(columns="cell_id").to_dict("records"))
    found = equal_flops(more).set_index(["prune_rate", "coreset_ratio"]).loc[(0.5, 0.1)]
    assert found["value"] == pytest.approx(0.75 - 0.8, abs=1e-9)
    assert not points(more).set_index(["prune_rate", "coreset_ratio"]).loc[(0.7, 1.0), "front"]


def test_a_joint_cell_of_which_every_run_diverged_has_no_cost() -> None:
    runs = flops_table(0.5).assign(reason=None)
    runs.loc[(runs["prune_rate"] > 0) & (runs["coreset_ratio"] < 1), "reason"] = "diverged"
    row = equal_flops(runs).iloc[0]
    assert np.isnan(row["value"])
    assert row["note"] == "no run of it has a cost: each diverged, or the table lacks it"


def test_branches_have_totals_of_their_own() -> None:
    runs = realistic().assign(branched_from=None)
    runs.loc[runs.index[:2], "branched_from"] = "x-10"
    found = totals(runs).set_index("status")
    assert found.loc["branch, finished", "runs"] == 2
    assert found.loc["all", "seconds"] == pytest.approx(runs["seconds"].sum())


def test_cheaper_than_the_front_has_no_contrast() -> None:
    row = equal_flops(flops_table(0.05)).iloc[0]
    assert np.isnan(row["value"])
    assert "cheaper than every single treatment" in row["note"]


def test_equal_flops_without_flops_is_empty() -> None:
    found = equal_flops(table(grid({(0.0, 1.0): [0.9], (0.5, 0.1): [0.5]})))
    assert found.empty
    assert {"value", "flops_relative", "note"} <= set(found.columns)


def test_equal_flops_has_intervals_and_q() -> None:
    found = equal_flops(realistic())
    known = found[found["value"].notna()]
    assert len(known)
    assert known[["lo", "hi", "q", "welch_lo"]].notna().all().all()
