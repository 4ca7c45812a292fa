"""The verdict on four arms: golden cases by hand, what must not matter, and how often it is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.counterfactual import ARMS, Verdict, gaps, intervals, judge, orders_needed, trajectories, verdict

TOP = 0.98


def arms(
    weights: Sequence[float], samples: Sequence[float], both: Sequence[float], neither: float = TOP
) -> pd.DataFrame:
    """Four arms at epochs 9 (where all are equal) and 10, from the gaps by seed."""
    gap = {"neither": [0.0] * len(both), "weights": weights, "samples": samples, "both": both}
    rows = [
        {"arm": arm, "seed": seed, "epoch": epoch, "accuracy_test": neither - (gap[arm][seed] if epoch == 10 else 0)}
        for arm in ARMS
        for seed in range(len(both))
        for epoch in (9, 10)
    ]
    return pd.DataFrame(rows)


def spread(mean: float, by: float = 0.01) -> list[float]:
    """Four seeds with this mean: half-width of the interval 3.182 * 1.155 by / 2 = 1.837 by."""
    return [mean - by, mean + by, mean - by, mean + by]


def said(weights: float, samples: float, both: float, by: float = 0.005) -> Verdict:
    """Gaps that vary independently over four seeds, each with a half-width of 1.837 by."""
    return judge(
        arms(
            [weights - by, weights + by, weights - by, weights + by],
            [samples - by, samples - by, samples + by, samples + by],
            [both - by, both + by, both + by, both - by],
        )
    )


def test_gaps_and_intervals_by_hand() -> None:
    found = judge(arms([0.0, 0.02, 0.0, 0.02], [0.1, 0.1, 0.1, 0.1], [0.3, 0.3, 0.4, 0.4]))
    assert found.gaps["weights"].mean == pytest.approx(0.01)
    # sd = 0.02 / sqrt(3) = 0.011547; t(0.975, 3) = 3.18245; half-width 3.18245 * 0.011547 / 2 = 0.018374
    assert found.gaps["weights"].sd == pytest.approx(0.0115470)
    assert found.gaps["weights"].hi == pytest.approx(0.01 + 0.0183738, abs=1e-7)
    assert (found.gaps["samples"].lo, found.gaps["samples"].hi) == pytest.approx((0.1, 0.1))
    # interaction by seed: 0.2, 0.18, 0.3, 0.28: mean 0.24, sd 0.0588784
    assert found.interaction.mean == pytest.approx(0.24)
    assert found.interaction.sd == pytest.approx(0.0588784, abs=1e-7)
    assert found.n == 4


@pytest.mark.parametrize(
    ("weights", "samples", "both", "title"),
    [
        (0.0, 0.01, 0.40, "confirmed"),
        (-0.02, -0.01, 0.10, "confirmed"),
        (0.0, 0.16, 0.33, "amplified"),
        (0.20, 0.0, 0.50, "amplified"),
        (0.10, 0.12, 0.50, "amplified"),
        (0.0, 0.12, 0.13, "refuted: samples_alone"),
        (0.12, -0.01, 0.11, "refuted: weights_alone"),
        (0.05, 0.30, 0.20, "inconclusive"),  # both singles stay down
        (-0.01, 0.42, 0.33, "refuted: samples_alone"),  # together less than added: no double loss either
        (0.20, 0.25, 0.25, "inconclusive"),  # each alone does it
        (0.31, 0.30, 0.31, "inconclusive"),
        (0.03, 0.30, 0.30, "inconclusive"),  # whether the weights alone stay down is not known
        (0.10, 0.21, 0.30, "inconclusive"),  # they add up
        (0.0, 0.0, 0.01, "inconclusive"),  # nothing lasts
        (0.0, 0.03, 0.40, "inconclusive"),  # samples alone are just at the margin
    ],
)
def test_the_verdict_by_hand(weights: float, samples: float, both: float, title: str) -> None:
    found = said(weights, samples, both)
    assert found.title == title
    assert found.reason
    assert (found.needed is not None) <= (found.status == "inconclusive")


def test_removals_that_overlap_are_said_to() -> None:
    assert said(0.31, 0.30, 0.31).reason.startswith("the two losses overlap: each removal costs accuracy alone")
    assert said(0.10, 0.21, 0.30).reason.startswith("the two losses add up")


def test_losses_that_merely_add_up_are_not_confirmed_below_the_margin() -> None:
    assert said(0.02, 0.02, 0.04, by=0.001).status == "inconclusive"


def test_the_two_cases_known_from_digits() -> None:
    """analysis.md: gaps of 13 / 12 / -4 are samples_alone (intervals ours); 33.1, 16.3, -0.1 at n = 6 are amplified."""
    draw = stats.norm.ppf((np.arange(6) + 0.5) / 6)
    unit = draw / draw.std(ddof=1)

    def gap(mean: float, half: float, order: Sequence[int]) -> list[float]:
        return list(mean + half / (stats.t.ppf(0.975, 5) / np.sqrt(6)) * unit[list(order)])

    a, b, c = (0, 1, 2, 3, 4, 5), (1, 0, 3, 2, 5, 4), (2, 0, 4, 1, 5, 3)
    lead = judge(arms(gap(-0.001, 0.003, a), gap(0.163, 0.067, b), gap(0.331, 0.108, c)))
    assert lead.title == "amplified"
    assert lead.gaps["both"].hi - lead.gaps["both"].mean == pytest.approx(0.108)
    assert judge(arms(gap(-0.04, 0.06, a), gap(0.12, 0.03, b), gap(0.13, 0.04, c))).title == "refuted: samples_alone"


def test_an_arm_of_the_same_bits_has_a_gap_of_zero_and_no_width() -> None:
    found = judge(arms([0.0] * 4, spread(0.2), spread(0.2)))
    assert (found.gaps["weights"].lo, found.gaps["weights"].hi) == (0.0, 0.0)
    assert (found.interaction.lo, found.interaction.hi) == pytest.approx((0.0, 0.0))
    assert found.title == "refuted: samples_alone"


def test_orders_that_are_all_one_run_are_said() -> None:
    same = judge(arms([0.0] * 4, [0.2] * 4, [0.2] * 4))
    assert same.title == "refuted: samples_alone"
    assert "all 4 data orders gave the same runs" in same.reason
    assert "same runs" not in judge(arms([0.0] * 4, spread(0.2), spread(0.2))).reason


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_orders_have_no_verdict(n: int) -> None:
    found = judge(arms([0.0] * n, [0.0] * n, [0.5] * n))
    assert (found.status, found.n, found.needed) == ("inconclusive", n, None)
    assert "fewer than 3 data orders" in found.reason
    assert np.isnan(found.gaps["both"].lo) == (n == 1)


def test_only_seeds_with_all_arms_at_the_horizon_count() -> None:
    table = arms(spread(0.0), spread(0.0), spread(0.5))
    lacking = table[~((table["arm"] == "both") & (table["seed"] == 3) & (table["epoch"] == 10))]
    assert list(gaps(lacking).index) == [0, 1, 2]
    assert judge(lacking).n == 3


def test_no_seed_at_all() -> None:
    found = judge(arms([0.0], [0.0], [0.1]).query("arm != 'both'"))
    assert (found.status, found.n) == ("inconclusive", 0)


def test_what_would_decide() -> None:
    noisy = judge(arms([0.0, 0.0, 0.0, 0.0], [0.01, -0.01, 0.0, 0.0], [0.3, 0.02, 0.25, 0.01]))
    assert noisy.status == "inconclusive"
    assert noisy.needed is not None
    assert noisy.needed > 4
    assert noisy.reason == f"leans to confirmed; {noisy.needed} data orders would decide"
    assert "add up" in said(0.10, 0.21, 0.30).reason
    assert "does not last" in said(0.0, 0.0, 0.01).reason


def test_the_number_of_orders_agrees_with_published_power_tables() -> None:
    """One-sample t-test, two-sided 5 %, power 80 %: d = 0.5 takes 34, d = 0.8 takes 15, d = 1 takes 10."""
    assert [orders_needed(d, 1.0) for d in (0.5, 0.8, 1.0)] == [34, 15, 10]
    assert orders_needed(-0.5, 1.0) == 34
    assert orders_needed(1e-6, 1.0) is None
    assert (orders_needed(0.1, 0.0), orders_needed(0.0, 0.0)) == (3, None)


def test_trajectories_are_means_with_intervals() -> None:
    found = trajectories(arms(spread(0.0), spread(0.1), spread(0.5))).set_index(["arm", "epoch"])
    assert found.loc[("both", 10), "mean"] == pytest.approx(TOP - 0.5)
    assert found.loc[("both", 10), "hi"] == pytest.approx(TOP - 0.5 + 0.0183738, abs=1e-6)
    assert found.loc[("both", 9), ["mean", "lo", "hi"]].tolist() == pytest.approx([TOP] * 3)
    assert set(found["n"]) == {4}


values = st.lists(st.tuples(*[st.floats(-0.1, 0.9)] * 3), min_size=3, max_size=8)


@given(values, st.randoms(use_true_random=False), st.floats(0.5, 0.9))
@settings(max_examples=25)
def test_neither_the_order_of_seeds_nor_the_level_matters(
    rows: list[tuple[float, float, float]], random: object, level: float
) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = (judge(arms(*map(list, zip(*some, strict=True)), neither=n)) for some, n in ((rows, 1.0), (mixed, 1)))
    assert one == other
    shifted = judge(arms(*map(list, zip(*rows, strict=True)), neither=level))
    assert shifted.interaction.mean == pytest.approx(one.interaction.mean, abs=1e-9)


@given(values)
@settings(max_examples=25)
def test_weights_and_samples_are_treated_alike(rows: list[tuple[float, float, float]]) -> None:
    weights, samples, both = map(list, zip(*rows, strict=True))
    one, other = judge(arms(weights, samples, both)), judge(arms(samples, weights, both))
    names = {"weights_alone": "samples_alone", "samples_alone": "weights_alone"}
    assert one.status == other.status
    if abs(one.gaps["weights"].mean - one.gaps["samples"].mean) > 1e-6:
        assert one.cause == names.get(other.cause, "")
    assert one.needed == other.needed


@given(values)
@settings(max_examples=25)
def test_every_verdict_keeps_its_word(rows: list[tuple[float, float, float]]) -> None:
    found = judge(arms(*map(list, zip(*rows, strict=True))))
    singles = [found.gaps["weights"], found.gaps["samples"]]
    if found.status != "inconclusive":
        assert found.gaps["both"].lo > 0.03
    if found.status in ("confirmed", "amplified"):
        assert found.interaction.lo > 0
        assert all(one.hi < 0.03 for one in singles) == (found.status == "confirmed")
    if found.status == "refuted":
        assert found.interaction.lo <= 0
        assert max(one.mean for one in singles) > found.gaps["both"].mean / 2
        assert min(one.hi for one in singles) < 0.03


@pytest.mark.parametrize("n", [3, 5, 10])
def test_type_one_error_of_the_interaction(n: int) -> None:
    """Losses that add up, noise in every arm: 5 of 100 intervals leave out 0, and half of those lie above it."""
    random = np.random.default_rng(n)
    neither, weights, samples, both = random.normal(0, 0.03, size=(4, 40_000, n))
    found = intervals((neither - both - 0.3) - (neither - weights - 0.1) - (neither - samples - 0.2))
    assert ((found.lo > 0) | (found.hi < 0)).mean() == pytest.approx(0.05, abs=0.01)
    assert (found.lo > 0).mean() == pytest.approx(0.025, abs=0.005)


def test_additive_losses_are_rarely_called_double() -> None:
    random = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        neither, weights, samples, both = random.normal(0, 0.02, size=(4, 5))
        table = pd.DataFrame(
            {"weights": neither - weights, "samples": neither - samples + 0.15, "both": neither - both + 0.15}
        )
        table["interaction"] = table["both"] - table["weights"] - table["samples"]
        called += verdict(table).status in ("confirmed", "amplified")
    assert called / 400 <= 0.05
