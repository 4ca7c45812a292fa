"""Intervals and tests against scipy, and their error rates by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.inference import false_discovery, paired_test, sign_flip, summarise, welch


@pytest.mark.parametrize("n", [2, 3, 9])
def test_t_test_and_interval_are_scipys(n: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 1, size=(5, n))
    found = summarise(values)
    for row, p, greater, lo, hi in zip(
        values, paired_test(values), paired_test(values, "greater"), found.lo, found.hi, strict=True
    ):
        expected = stats.ttest_1samp(row, 0)
        interval = expected.confidence_interval(0.95)
        assert p == pytest.approx(expected.pvalue, rel=1e-10)
        assert greater == pytest.approx(stats.ttest_1samp(row, 0, alternative="greater").pvalue, rel=1e-10)
        assert (lo, hi) == pytest.approx((interval.low, interval.high), rel=1e-10)


@pytest.mark.parametrize("tail", ["two-sided", "greater"])
@pytest.mark.parametrize("n", [10, 12])
def test_sign_flip_is_scipys_exact_permutation_test(n: int, tail: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.4, 1, size=(3, n))
    for row, p in zip(values, paired_test(values, tail), strict=True):  # type: ignore[arg-type]
        expected = stats.permutation_test(
            (row,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True, alternative=tail
        )
        assert p == pytest.approx(expected.pvalue, abs=1e-12)


def test_sign_flip_by_sampling_is_near_and_deterministic() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 1, size=(20, 18))
    p = sign_flip(values)
    assert np.array_equal(p, sign_flip(values))
    assert np.abs(p - stats.ttest_1samp(values, 0, axis=1).pvalue).max() < 0.03
    assert sign_flip(np.ones((1, 30)))[0] == pytest.approx(2 / 10_000)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("tail", ["two-sided", "greater"])
def test_type_one_error_is_five_per_cent(n: int, tail: str) -> None:
    values = np.random.default_rng(n).normal(size=(20_000, n))
    assert (paired_test(values, tail) < 0.05).mean() == pytest.approx(0.05, abs=0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_ninety_five_per_cent(n: int) -> None:
    found = summarise(np.random.default_rng(n).normal(1.0, 1, size=(20_000, n)))
    assert ((found.lo < 1) & (found.hi > 1)).mean() == pytest.approx(0.95, abs=0.01)


def test_absent_seeds_are_ignored() -> None:
    values = np.array([[0.1, np.nan, 0.3, 0.2], [0.5, np.nan, np.nan, np.nan], [np.nan] * 4])
    found = summarise(values)
    assert found.n.tolist() == [3, 1, 0]
    assert found.mean[:2] == pytest.approx([0.2, 0.5])
    assert np.isnan(found.mean[2])
    assert np.isnan(found.lo[1:]).all()
    assert np.isnan(paired_test(values)[1:]).all()


def test_equal_contrasts_give_no_certainty() -> None:
    values = np.full((1, 3), 0.1) + np.array([[0, 1e-17, -1e-17]])
    assert np.isnan(summarise(values).lo[0])
    assert np.isnan(paired_test(values)[0])


def test_welch_is_scipys() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=6), rng.normal(0.5, 2, size=4)
    lo, hi = welch(
        np.array([[1.0], [-1.0]]),
        np.array([[a.std(ddof=1)], [b.std(ddof=1)]]),
        np.array([[6], [4]]),
        np.array([a.mean() - b.mean()]),
    )
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (lo[0], hi[0]) == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_welch_ignores_groups_that_do_not_enter() -> None:
    one = welch(np.array([[1.0]]), np.array([[0.2]]), np.array([[5]]), np.array([0.0]))
    two = welch(np.array([[1.0], [0.0]]), np.array([[0.2], [np.nan]]), np.array([[5], [0]]), np.array([0.0]))
    assert one == two


def test_false_discovery_is_scipys_by_family() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.2, 0.001])
    family = np.array([0, 0, 0, 1, 1, 1])
    q = false_discovery(p, family)
    assert q[[0, 1]] == pytest.approx(stats.false_discovery_control([0.01, 0.04]))
    assert q[3:] == pytest.approx(stats.false_discovery_control([0.03, 0.2, 0.001]))
    assert np.isnan(q[2])


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=12), data=st.data())
def test_the_order_of_seeds_does_not_matter(values: list[float], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(values))
    a, b = np.array([values]), np.array([shuffled])
    assert np.array_equal(paired_test(a), paired_test(b), equal_nan=True)
    assert np.array_equal(summarise(a).lo, summarise(b).lo, equal_nan=True)


def test_what_is_left_of_equal_seeds_by_curvature_is_no_spread() -> None:
    """A Bliss contrast of two seeds that differ in the tenth digit: no interval, and nothing to test."""
    contrasts = np.array([[-4.957e-06, -4.957e-06 + 1.2e-10], [0.01, 0.02]])
    assert np.isfinite(summarise(contrasts).lo).tolist() == [False, True]
    assert np.isfinite(paired_test(contrasts)).tolist() == [False, True]
    assert paired_test(np.full((1, 10), -4.957e-06)).tolist() == [1.0]
