"""The five measures: hand-computed, tested, corrected, and honest about what is missing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.synergy import MEASURES, synergy
from tests.analysis.simulation import NULLS, p_values
from tests.analysis.synthetic_runs import grid, realistic, run, table

# Rows: prune rate 0, .5, .9; columns: coreset ratio 1, .2, .05; chance .1, dense .9.
MATRIX = {
    (0.0, 1.0): 0.90, (0.0, 0.2): 0.80, (0.0, 0.05): 0.60,
    (0.5, 1.0): 0.88, (0.5, 0.2): 0.82, (0.5, 0.05): 0.50,
    (0.9, 1.0): 0.70, (0.9, 0.2): 0.65, (0.9, 0.05): 0.20,
}  # fmt: skip
BY_HAND = {
    "gain_over_coreset": {(0.5, 0.2): 0.02, (0.5, 0.05): -0.10, (0.9, 0.2): -0.15, (0.9, 0.05): -0.40},
    "gain_over_pruning": {(0.5, 0.2): -0.06, (0.5, 0.05): -0.38, (0.9, 0.2): -0.05, (0.9, 0.05): -0.50},
    "hsa": {(0.5, 0.2): -0.06, (0.5, 0.05): -0.38, (0.9, 0.2): -0.15, (0.9, 0.05): -0.50},
    "additive": {(0.5, 0.2): 0.04, (0.5, 0.05): -0.08, (0.9, 0.2): 0.05, (0.9, 0.05): -0.20},
    # r: dense 1, (0,.2) .875, (0,.05) .625, (.5,1) .975, (.9,1) .75; joint .9, .5, .6875, .125
    "bliss": {
        (0.5, 0.2): 0.9 - 0.975 * 0.875, (0.5, 0.05): 0.5 - 0.975 * 0.625,
        (0.9, 0.2): 0.6875 - 0.75 * 0.875, (0.9, 0.05): 0.125 - 0.75 * 0.625,
    },
}  # fmt: skip
OFFSETS = np.array([-0.01, 0.0, 0.01])


def one(found: pd.DataFrame, measure: str, p: float = 0.5, ratio: float = 0.2) -> pd.Series:
    rows = found[(found["measure"] == measure) & (found["prune_rate"] == p) & (found["coreset_ratio"] == ratio)]
    assert len(rows) == 1
    return rows.iloc[0]


def noisy(seeds: int, seed: int = 0) -> dict[tuple[float, float], np.ndarray]:
    rng = np.random.default_rng(seed)
    return {cell: y + rng.normal(0, 0.01, seeds) for cell, y in MATRIX.items()}


@pytest.mark.parametrize("measure", list(MEASURES))
def test_by_hand(measure: str) -> None:
    found = synergy(table(grid({cell: y + OFFSETS for cell, y in MATRIX.items()})))
    for (p, ratio), expected in BY_HAND[measure].items():
        if measure == "bliss":  # not linear: the mean over seeds of the product
            scaled = (np.array([MATRIX[0.0, ratio], MATRIX[p, 1.0], MATRIX[p, ratio]])[:, None] + OFFSETS - 0.1) / 0.8
            expected = float((scaled[2] - scaled[1] * scaled[0]).mean())
        assert one(found, measure, p, ratio)["value"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", list(MEASURES))
def test_by_hand_one_seed_says_so(measure: str) -> None:
    found = synergy(table(grid({cell: [y] for cell, y in MATRIX.items()})))
    for (p, ratio), expected in BY_HAND[measure].items():
        row = one(found, measure, p, ratio)
        assert row["value"] == pytest.approx(expected, abs=1e-9)
        assert row[["sd", "lo", "hi", "welch_lo", "p", "q"]].isna().all()
        assert not row["significant"]
        assert "one seed: no interval, no test" in row["note"]


def test_interval_and_test_are_those_of_the_paired_contrasts() -> None:
    y = noisy(5)
    row = one(synergy(table(grid(y))), "additive")
    contrasts = y[0.5, 0.2] - y[0.5, 1.0] - y[0.0, 0.2] + y[0.0, 1.0]
    expected = stats.ttest_1samp(contrasts, 0)
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-9)
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (row["n"], row["test"]) == (5, "paired t")


def test_welch_stands_beside_it() -> None:
    y = noisy(6)
    row = one(synergy(table(grid(y))), "gain_over_coreset")
    expected = stats.ttest_ind(y[0.5, 0.2], y[0.0, 0.2], equal_var=False).confidence_interval(0.95)
    assert (row["welch_lo"], row["welch_hi"]) == pytest.approx(tuple(expected), abs=1e-9)


def test_welch_of_bliss_is_the_delta_method() -> None:
    y = noisy(6)
    row = one(synergy(table(grid(y))), "bliss")
    scale = y[0.0, 1.0].mean() - 0.1
    joint, prune, core, dense = ((y[c] - 0.1) / scale for c in ((0.5, 0.2), (0.5, 1.0), (0.0, 0.2), (0.0, 1.0)))
    by_dense = 2 * prune.mean() * core.mean() - joint.mean()
    slopes = np.array([1, core.mean(), prune.mean(), by_dense])
    parts = slopes**2 * [x.var(ddof=1) / 6 for x in (joint, prune, core, dense)]
    df = parts.sum() ** 2 / (parts**2 / 5).sum()
    half = stats.t.ppf(0.975, df) * np.sqrt(parts.sum())
    centre = joint.mean() - prune.mean() * core.mean()
    assert (row["welch_lo"], row["welch_hi"]) == pytest.approx((centre - half, centre + half), abs=1e-7)


def test_sign_flip_from_ten_seeds() -> None:
    y = noisy(10)
    row = one(synergy(table(grid(y))), "gain_over_pruning")
    expected = stats.permutation_test(
        (y[0.5, 0.2] - y[0.5, 1.0],), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True
    )
    assert row["test"] == "sign-flip"
    assert row["p"] == pytest.approx(expected.pvalue, abs=1e-12)


def test_hsa_takes_one_best_single_and_the_larger_p() -> None:
    """Coreset-only is better by its mean, prune-only in seed 2: the contrast keeps to one."""
    y = {(0.0, 1.0): [0.9] * 3, (0.5, 1.0): [0.70, 0.71, 0.79], (0.0, 0.2): [0.76, 0.75, 0.77],
         (0.5, 0.2): [0.80, 0.78, 0.81]}  # fmt: skip
    row = one(synergy(table(grid(y))), "hsa")
    joint, prune, core = (np.array(y[c]) for c in ((0.5, 0.2), (0.5, 1.0), (0.0, 0.2)))
    assert row["value"] == pytest.approx((joint - core).mean(), abs=1e-12)
    tests = [stats.ttest_1samp(joint - single, 0, alternative="greater").pvalue for single in (prune, core)]
    assert row["p"] == pytest.approx(max(tests), rel=1e-9)
    assert "best single: coreset-only" in row["note"]


def test_hsa_chooses_the_best_single_among_the_seeds_that_have_both() -> None:
    """Over all its five seeds coreset-only is worse than prune-only's two; over those two it is better."""
    y = {(0.0, 1.0): [0.95] * 5, (0.5, 1.0): [0.80, 0.80], (0.0, 0.2): [0.90, 0.902, 0.7, 0.7, 0.7],
         (0.5, 0.2): [0.85, 0.853, 0.6, 0.6, 0.6]}  # fmt: skip
    row = one(synergy(table(grid(y))), "hsa")
    assert "best single: coreset-only" in row["note"]
    assert (row["value"], row["n"]) == (pytest.approx(-0.0495), 2)


def test_hsa_never_claims_a_loss() -> None:
    found = synergy(realistic()).query("measure == 'hsa' and value < 0")
    assert len(found)
    assert not found["significant"].any()


def test_one_family_is_a_measure_and_a_preservation() -> None:
    found = synergy(realistic())
    for _, family in found.groupby(["measure", "preservation"]):
        tested = family[family["p"].notna()]
        assert tested["selector"].nunique() == 2
        expected = stats.false_discovery_control(tested["p"])
        assert tested["q"].to_numpy() == pytest.approx(expected, abs=1e-12)
    assert (found["significant"] == (found["q"] < 0.05)).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("measure", list(NULLS))
def test_type_one_error(measure: str, seeds: int) -> None:
    assert (p_values(measure, seeds, models=3_000) < 0.05).mean() == pytest.approx(0.05, abs=0.01)


def test_missing_controls_name_the_cells_to_add() -> None:
    y = noisy(3)
    del y[0.5, 1.0]
    found = synergy(table(grid(y)))
    for measure in ("gain_over_pruning", "hsa", "additive", "bliss"):
        row = one(found, measure)
        assert np.isnan(row["value"])
        assert row["n"] == 0
        assert "no finished prune-only run (0.5, 1) for seed 0, 1, 2: add or rerun it" in row["note"]
    assert one(found, "gain_over_coreset")["note"] == ""


def test_seeds_that_do_not_pair_are_left_out() -> None:
    rows = [r for r in grid(noisy(4)) if not (r["prune_rate"] == 0.5 and r["coreset_ratio"] == 1 and r["seed"] == 3)]
    row = one(synergy(table(rows)), "gain_over_pruning")
    assert row["n"] == 3
    assert "for seed 3" in row["note"]


def test_failed_and_missing_joint_cells() -> None:
    found = synergy(realistic())
    failed = one(
        found[(found["selector"] == "el2n (balanced=True)") & (found["preservation"] == "none")], "bliss", 0.8, 0.05
    )
    assert np.isnan(failed["value"])
    assert "rerun" in failed["note"]
    assert len(found.query("measure == 'bliss'")) == 47


def test_two_seeds_are_a_warning() -> None:
    assert "2 seeds: fewer than 3" in one(synergy(table(grid(noisy(2)))), "additive")["note"]


def test_bliss_needs_a_dense_run_above_chance() -> None:
    rows = grid(noisy(3) | {(0.0, 1.0): np.full(3, 0.1)})
    row = one(synergy(table(rows)), "bliss")
    assert np.isnan(row["value"])
    assert "above chance" in row["note"]


def test_equal_runs_of_one_seed_are_averaged() -> None:
    rows = grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.2): [0.7], (0.5, 0.2): [0.6]})
    row = one(synergy(table([*rows, run(0.5, 0.2, 0, 0.8)])), "gain_over_coreset")
    assert (row["value"], row["n"]) == (pytest.approx(0.0), 1)


def test_the_collapse_is_seen_and_preservation_cures_it() -> None:
    found = synergy(realistic()).query("measure == 'bliss' and prune_rate == 0.9 and coreset_ratio == 0.05")
    value = found.set_index(["selector", "preservation"])["value"]
    assert value["el2n (balanced=False)", "none"] < -0.3
    assert value.drop(("el2n (balanced=False)", "none")).abs().max() < 0.1


@settings(max_examples=4, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_rows_in_any_order_seeds_by_any_name(order) -> None:  # noqa: ANN001
    runs = realistic(seeds=3)
    rows, names = list(runs.index), [11, 5, 8]
    order.shuffle(rows)
    order.shuffle(names)
    other = runs.loc[rows].assign(seed=lambda r: r["seed"].map(dict(enumerate(names))))
    numbers = ["value", "n", "lo", "hi", "welch_lo", "p", "q"]
    pd.testing.assert_frame_equal(synergy(other)[numbers], synergy(runs)[numbers], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dense_seeds", [[0], [7, 8, 9]])
def test_bliss_has_no_interval_where_the_error_of_the_dense_mean_is_not_in_it(dense_seeds: list[int]) -> None:
    """One dense run, or none of these seeds: an interval over seeds would take their mean for exact."""
    rows = [row for row in grid(noisy(5)) if (row["prune_rate"], row["coreset_ratio"]) != (0.0, 1.0)]
    found = synergy(table([*rows, *(run(0.0, 1.0, seed, 0.9 + 0.001 * seed) for seed in dense_seeds)]))
    row = one(found, "bliss")
    assert row[["lo", "hi", "p", "q"]].isna().all()
    assert (row["n"], row["significant"]) == (5, False)
    assert "fewer than two of these seeds have a dense run: no interval, no test" in row["note"]
    assert np.isfinite(row["value"])
    assert np.isfinite(one(found, "gain_over_coreset")["lo"])


def test_the_error_of_a_mean_of_fewer_dense_runs_is_larger() -> None:
    """All seeds alike but for the dense runs: 2 of 5, or all; by the delta method the interval goes by 1 / sqrt(m)."""
    y = {cell: np.full(5, value) for cell, value in MATRIX.items() if cell != (0.0, 1.0)}
    spread = np.array([-0.01, 0.01, -0.01, 0.01, 0.0])
    sd = {}
    for m in (5, 2):
        dense = [run(0.0, 1.0, seed, 0.9 + spread[seed]) for seed in range(m)]
        sd[m] = one(synergy(table([*grid(y), *dense])), "bliss")["sd"] / np.sqrt(5)
        slope = (2 * 0.975 * 0.875 - 0.9) / 0.8
        assert sd[m] == pytest.approx(slope * np.std(spread[:m], ddof=1) / np.sqrt(m), rel=2e-2)


@pytest.mark.parametrize(("p", "single"), [(0.5, (0.5, 1.0)), (0.9, (0.0, 0.2))])
def test_welch_of_hsa_is_against_the_better_single(p: float, single: tuple[float, float]) -> None:
    y = noisy(6)
    row = one(synergy(table(grid(y))), "hsa", p)
    expected = stats.ttest_ind(y[p, 0.2], y[single], equal_var=False).confidence_interval(0.95)
    assert (row["welch_lo"], row["welch_hi"]) == pytest.approx(tuple(expected), abs=1e-9)
