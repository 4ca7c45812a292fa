"""Collapse in the grid and its frontier: by hand, by simulation, and honest about what is missing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from analysis.figures import heatmap
from analysis.frontier import collapse_grid, estimate, frontier, sentences
from analysis.inference import wilson
from analysis.logistic import Plane
from analysis.panels import heatmaps
from analysis.surface import surface
from analysis.synergy import synergy
from tests.analysis.synthetic_runs import grid, realistic, run, table

RATES, RATIOS = (0.5, 0.8, 0.9, 0.95), (0.5, 0.2, 0.1, 0.05)


def one(found: pd.DataFrame, p: float, ratio: float) -> pd.Series:
    rows = found[(found["prune_rate"] == p) & (found["coreset_ratio"] == ratio)]
    assert len(rows) == 1
    return rows.iloc[0]


def collapsing(seeds: int, edge: dict[float, float]) -> list[dict[str, object]]:
    """Singles at .9, joint cells at .85, or .3 where the ratio lies below ``edge`` of the rate."""
    y = {(p, a): [0.9] * seeds for p in (0.0, *RATES) for a in (1.0, *RATIOS)}
    y |= {(p, a): [0.3 if a < edge.get(p, 0) else 0.85] * seeds for p in RATES for a in RATIOS}
    return grid(y)


def test_the_rule_by_hand() -> None:
    """Chance .1, dense .9: r = (y - .1) / .8. Singles .82 and .74: r = .9 and .8, expected r .72.

    Joint .58: r .6, bliss -.12 and .16 below the lower single: collapsed. .62: r .65, bliss -.07: not.
    """
    y = {(0.0, 1.0): [0.9] * 3, (0.5, 1.0): [0.82] * 3, (0.0, 0.2): [0.74] * 3, (0.5, 0.2): [0.58, 0.62, 0.5]}
    row = one(collapse_grid(table(grid(y))), 0.5, 0.2)
    assert (row["k"], row["n"], row["share"]) == (2, 3, pytest.approx(2 / 3))
    assert row["collapsed"]
    assert not row["established"]


def test_both_conditions_are_needed() -> None:
    """Dense .5 (scale .4), pruning alone .5 (r 1), coreset alone .3 (r .5, also expected).

    Joint .255: r .3875, bliss -.1125, but only .045 below the lower single. .245: .055 below.
    And at a scale of .8, pruning alone .9 (r 1), coreset alone .5: joint .44 is .06 below it, but bliss is -.075.
    """
    y = {(0.0, 1.0): [0.5], (0.5, 1.0): [0.5], (0.0, 0.2): [0.3], (0.5, 0.2): [0.255]}
    assert one(collapse_grid(table(grid(y))), 0.5, 0.2)["k"] == 0
    assert one(collapse_grid(table(grid(y | {(0.5, 0.2): [0.245]}))), 0.5, 0.2)["k"] == 1
    wide = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.9], (0.0, 0.2): [0.5], (0.5, 0.2): [0.44]}
    assert one(collapse_grid(table(grid(wide))), 0.5, 0.2)["k"] == 0


def test_the_interval_is_wilsons() -> None:
    for n in (1, 2, 3, 5, 10):
        lo, hi = wilson(np.arange(n + 1), np.full(n + 1, n))
        for k in range(n + 1):
            expected = stats.binomtest(k, n).proportion_ci(method="wilson")
            assert (lo[k], hi[k]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(np.concatenate(wilson(np.array([0]), np.array([0])))).all()


@pytest.mark.parametrize(("seeds", "established"), [(3, False), (4, True)])
def test_three_seeds_of_three_establish_nothing(seeds: int, established: bool) -> None:
    row = one(collapse_grid(table(collapsing(seeds, {0.9: 0.15}))), 0.9, 0.1)
    assert (row["k"], row["collapsed"], row["established"]) == (seeds, True, established)


def test_seeds_without_controls_do_not_count() -> None:
    rows = [r for r in collapsing(3, {0.9: 0.15}) if (r["prune_rate"], r["coreset_ratio"], r["seed"]) != (0.9, 1.0, 2)]
    found = collapse_grid(table(rows))
    assert (one(found, 0.9, 0.1)["k"], one(found, 0.9, 0.1)["n"]) == (2, 2)
    assert one(found, 0.9, 0.1)["note"] == "fewer than 3 seeds"
    alone = [run(0.5, 0.2, 0, 0.5)]
    assert one(collapse_grid(table(alone)), 0.5, 0.2)["note"] == "no seed finished with its controls"
    assert "no seed finished with its controls" in frontier(table(alone))["note"].iloc[0]


def test_runs_that_were_cut_are_no_evidence_and_are_said_to_be_none() -> None:
    rows = collapsing(3, {0.8: 0.07, 0.9: 0.15, 0.95: 0.3})
    stopped = [
        {**row, "status": "stopped"} if (row["prune_rate"], row["coreset_ratio"]) in ((0.8, 0.05), (0.9, 0.05)) else row
        for row in rows
    ]
    found, cells = frontier(table(stopped)), collapse_grid(table(stopped))
    assert found["runs_cut"].tolist() == [6] * 4
    assert found["note"].str.startswith("6 runs failed or stopped: no evidence").all()
    assert one(cells, 0.8, 0.05)["note"] == "no seed finished with its controls; 3 runs failed or stopped: no evidence"
    assert in_words(stopped)[1].endswith("(n = 3; 6 runs failed or stopped: no evidence)")
    whole = frontier(table(rows))
    assert whole["runs_cut"].tolist() == [0] * 4
    assert "evidence" not in " ".join(whole["note"])


def test_a_rate_of_which_every_joint_run_failed_has_no_place() -> None:
    rows = collapsing(3, {0.8: 0.07, 0.9: 0.15, 0.95: 0.3})
    failed = [
        {**row, "status": "failed"} if row["prune_rate"] == 0.95 and row["coreset_ratio"] < 1 else row for row in rows
    ]
    found = frontier(table(failed)).set_index("prune_rate")
    assert found.loc[0.95, ["alpha_star", "lo", "hi"]].isna().all()
    assert found.loc[[0.5, 0.8, 0.9], "alpha_star"].notna().all()
    assert "unknown at p 0.95" in in_words(failed)[1]
    absent = frontier(table([row for row in failed if row["status"] == "finished"])).set_index("prune_rate")
    assert 0.95 not in absent.index


def test_the_frontier_lies_between_what_collapses_and_what_does_not() -> None:
    edge = {0.5: 0.0, 0.8: 0.07, 0.9: 0.15, 0.95: 0.3}
    found = frontier(table(collapsing(5, edge))).set_index("prune_rate")
    assert found.loc[0.5, "alpha_star"] == 0
    for rate, (below, above) in {0.8: (0.05, 0.1), 0.9: (0.1, 0.2), 0.95: (0.2, 0.5)}.items():
        row = found.loc[rate]
        assert below < row["alpha_star"] < above
        assert row["lo"] < row["alpha_star"] < row["hi"]
        assert row["hi"] / row["lo"] > 1.3  # seeds that agree know it to a step of the grid, not better
    assert (found["n"] == 5).all()
    assert (found["runs"] == 80).all()


def test_an_end_on_the_edge_of_the_grid_is_not_beyond_it() -> None:
    """All of three seeds collapse at .05 and none at .2: half a step around .1 is the grid itself."""
    y = {(p, a): [0.9] * 3 for p in (0.0, 0.5, 0.9) for a in (1.0, 0.2, 0.05)} | {(0.9, 0.05): [0.3] * 3}
    row = frontier(table(grid(y))).set_index("prune_rate").loc[0.9]
    assert (row["alpha_star"], row["lo"], row["hi"]) == pytest.approx((0.1, 0.05, 0.2))


def test_all_or_nothing_is_said() -> None:
    nothing, everything = (frontier(table(collapsing(3, dict.fromkeys(RATES, edge)))) for edge in (0.0, 1.0))
    assert (nothing["alpha_star"] == 0).all()
    assert (everything["alpha_star"] == 1).all()
    assert nothing["note"].unique().tolist() == ["no run collapsed"]
    assert everything["note"].unique().tolist() == ["every run collapsed"]


def test_one_seed_has_no_interval() -> None:
    found = frontier(table(collapsing(1, {0.9: 0.15, 0.95: 0.3})))
    assert found[["lo", "hi"]].isna().all(axis=None)
    assert found["alpha_star"].notna().all()
    assert found["note"].str.contains("one seed: no interval").all()


def test_one_ratio_has_no_frontier() -> None:
    rows = [r for r in collapsing(3, {0.9: 0.3}) if r["coreset_ratio"] in (1.0, 0.2)]
    assert frontier(table(rows))["note"].str.contains("one coreset ratio only").all()


def test_facets_are_apart() -> None:
    found = collapse_grid(realistic(seeds=4))
    fallen = found[found["k"] > 0]
    assert fallen[["selector", "preservation", "prune_rate", "coreset_ratio"]].to_numpy().tolist() == [
        ["el2n (balanced=False)", "none", 0.9, 0.05]
    ]
    assert frontier(realistic(seeds=4)).groupby(["selector", "preservation"])["runs_collapsed"].first().sum() == 4


@pytest.mark.parametrize(("slope", "spread"), [(2, 0.0), (6, 0.5), (20, 0.3)])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers(seeds: int, slope: float, spread: float) -> None:
    """Seeds that differ in where they collapse, by ``spread`` in ln alpha; the grid lies anywhere to the truth."""
    rates, ratios = (0.5, 0.7, 0.8, 0.9, 0.95), (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    plane, rng = Plane(rates, ratios), np.random.default_rng(seeds)
    p, alpha = (a.ravel() for a in np.meshgrid(rates, ratios, indexing="ij"))
    terms = plane.terms(p, alpha)
    at = plane.terms(rates, [0.1] * 5)[:, 2]
    covered = []
    for _ in range(100):
        shift = -1.95 + rng.uniform(-0.2, 0.2)
        logit = slope * ((shift + 0.6 * terms[:, 2] - np.log(alpha))[:, None] + rng.normal(0, spread, seeds))
        log_alpha, half = estimate(plane, terms, (rng.random(logit.shape) < expit(logit)).astype(float))
        covered.append(np.abs(log_alpha - shift - 0.6 * at) <= half)
    assert np.mean(covered) > 0.93


@settings(max_examples=2, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_rows_in_any_order(order) -> None:  # noqa: ANN001
    runs = table(collapsing(3, {0.8: 0.07, 0.9: 0.15, 0.95: 0.3}))
    rows = list(runs.index)
    order.shuffle(rows)
    for of in (collapse_grid, frontier):
        pd.testing.assert_frame_equal(of(runs.loc[rows]), of(runs))


def test_the_figure_marks_cells_and_draws_the_frontier() -> None:
    """Columns 100, 50, 20, 10, 5: ln alpha* between the centres 3.5 (10 %) and 2.5 (20 %) at p = .9."""
    runs = table(collapsing(3, {0.8: 0.07, 0.9: 0.15, 0.95: 0.3}))
    found = frontier(runs)
    maps = {m.name: m for m in heatmaps(surface(runs), synergy(runs), collapse_grid(runs), found)}
    panel = maps["bliss"].panels[0]
    assert panel.collapsed.sum() == 6
    assert panel.collapsed[3].tolist() == [False, False, False, True, True]
    curve = panel.frontier
    assert curve is not None
    alpha = found.set_index("prune_rate").loc[0.9, "alpha_star"]
    assert curve.x[curve.y.tolist().index(3.5)] == pytest.approx(3.5 - np.log(alpha / 0.1) / np.log(2))
    assert curve.x[curve.y.tolist().index(1.5)] == 5  # nothing collapses at p = .5: the right edge
    assert maps["hsa"].panels[0].frontier is None
    assert maps["accuracy"].panels[0].collapsed.sum() == 0
    texts = {text.get_text() for axes in heatmap.draw(maps["bliss"]).axes for text in axes.texts}
    assert "3/3" in texts
    assert "outlined where they are more than half" in maps["hsa"].caption
    assert "half of the seeds would collapse" in maps["bliss"].caption


def test_both_in_words() -> None:
    runs = table(collapsing(4, {0.9: 0.15, 0.95: 0.3}))
    first, line = sentences(collapse_grid(runs), frontier(runs))
    assert first.startswith("5 of 16 joint cells collapsed in more than half of their seeds, 5 of them established")
    assert line.startswith("frontier of rigl x el2n, preservation none: alpha* below the grid at p 0.5, ")
    assert line.endswith("at p 0.95 (n = 4)")
    alone = sentences(*(of(table([run(0.5, 0.2, 0, 0.5)])) for of in (collapse_grid, frontier)))
    assert alone == (
        "0 of 1 joint cells collapsed: no seed finished with all controls of its cell, dense above chance, so none can "
        "be judged",
    )


def in_words(rows: list[dict[str, object]]) -> tuple[str, ...]:
    runs = table(rows)
    return sentences(collapse_grid(runs), frontier(runs))


def test_words_say_what_few_seeds_can_tell() -> None:
    """The interval of k of k lies above one half from four on; a single seed has no majority."""
    assert in_words(collapsing(1, {0.9: 0.15}))[0] == (
        "2 of 16 joint cells collapsed, each judged by one seed: one seed cannot establish that (4 of 4 could)"
    )
    assert in_words(collapsing(3, {0.9: 0.15}))[0] == (
        "2 of 16 joint cells collapsed in more than half of their seeds: 3 seeds cannot establish that (4 of 4 could)"
    )
    assert in_words(collapsing(1, {})) == ("0 of 16 joint cells collapsed, each judged by one seed",)
    assert in_words(collapsing(5, {})) == ("0 of 16 joint cells collapsed in more than half of their seeds",)
    stopped = [{**row, "status": "stopped"} if row["prune_rate"] == 0.9 else row for row in collapsing(1, {})]
    assert in_words(stopped)[0].startswith("0 of 12 joint cells collapsed (4 more have no seed that can be judged)")
    assert wilson(np.array([4, 3]), np.array([4, 3]))[0].round(3).tolist() == [0.51, 0.439]
    assert in_words(grid({(0.0, 1.0): [0.9]})) == ()


def test_words_of_a_frontier_that_one_ratio_cannot_tell() -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.9], (0.0, 0.1): [0.9], (0.5, 0.1): [0.3]}
    assert in_words(grid(cells))[1] == (
        "frontier of rigl x el2n, preservation none: unknown, one coreset ratio only: nothing to find the frontier in"
    )
