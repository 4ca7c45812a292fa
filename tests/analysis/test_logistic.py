"""The ridge logistic fit: against sklearn and a textbook, under separation, and its frontier by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from analysis.logistic import OFFSET, RATIO, SPREAD, Plane, fit, information, maximise

PLANE = Plane((0.5, 0.75, 0.9), (0.05, 0.1, 0.2, 0.5))
RATES, RATIOS = (a.ravel() for a in np.meshgrid(PLANE.prune_rates, PLANE.coreset_ratios, indexing="ij"))
TERMS = PLANE.terms(RATES, RATIOS)


X_MIDDLE = 1 - 2 * np.log(2) / np.log(5)
"""x of the rate .75: ln of the weights kept, .25, on the way from ln .5 (x = 1) to ln .1 (x = -1)."""


def test_terms_by_hand() -> None:
    """z, 1, x, and an indicator of each rate; z is -1 at .05, 1 at .5, and 0 at their geometric mean."""
    assert PLANE.terms([0.5, 0.75, 0.9], [0.05, 0.5, np.sqrt(0.05 * 0.5)]) == pytest.approx(
        np.array([[-1, 1, 1, 1, 0, 0], [1, 1, X_MIDDLE, 0, 1, 0], [0, 1, -1, 0, 0, 1]])
    )
    assert PLANE.spread.tolist() == [SPREAD] * 3 + [OFFSET] * 3


def test_a_textbook_example() -> None:
    """Hours of study and passing: the maximum likelihood fit is known to four digits."""
    hours = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 4, 4.25, 4.5, 4.75, 5, 5.5]
    passed = np.array([[0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1]], dtype=float)
    terms = np.stack([np.ones(20), hours], axis=1)
    assert maximise(terms, passed, np.ones((1, 20)), np.full(2, 1e6))[0] == pytest.approx([-4.0777, 1.5046], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_ridge_is_sklearns(seed: int) -> None:
    """With one spread for all terms: C = spread^2, and the constant is penalised as any other term."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 6, size=len(TERMS))
    collapsed = rng.binomial(n, expit(TERMS @ [-3.0, 0.5, -1.0, 0.5, 0.0, -0.5]))
    rows = np.repeat(np.arange(len(TERMS)), n)
    outcome = np.concatenate([np.arange(size) < k for size, k in zip(n, collapsed, strict=True)])
    oracle = LogisticRegression(C=2.0**2, fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = oracle.fit(TERMS[rows], outcome).coef_[0]
    found = maximise(TERMS, collapsed[None].astype(float), n[None].astype(float), np.full(6, 2.0))[0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_separated_cells_have_a_finite_fit_between_them() -> None:
    collapsed = (RATIOS < 0.15).astype(float)[None]
    found = fit(TERMS, collapsed, np.ones_like(collapsed), PLANE.spread)
    assert np.isfinite(found).all()
    alpha = np.exp(PLANE.log_frontier(found)[0])
    assert ((alpha > 0.1) & (alpha < 0.2)).all()


def test_the_frontier_by_hand() -> None:
    """b z + c + d x + e_p = 0; z = -1 at .05 and 1 at .5, so that z = 0 is sqrt(.025)."""
    weights = np.array([[-4.0, 0, 0, 0, 0, 0], [-4.0, 2, 0, 0, 0, 0], [-2.0, 0, -1, 0, 0, 0], [-2.0, 0, 0, 1, 0, -1]])
    by_hand = np.array([[0.0] * 3, [0.5] * 3, [-0.5, -X_MIDDLE / 2, 0.5], [0.5, 0, -0.5]])
    assert PLANE.log_frontier(weights) == pytest.approx(np.log(0.025) / 2 + np.log(10) / 2 * by_hand)


def test_a_frontier_beyond_the_ratios_ends_one_step_out() -> None:
    found = PLANE.log_frontier(np.array([[-1, 9.0, 0, 0, 0, 0], [-1, -9.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]]))
    assert np.exp(found[:, 0]) == pytest.approx([0.5 * 2.5, 0.05 / 2, 0.5 * 2.5])


def test_a_larger_coreset_never_makes_a_collapse_likelier() -> None:
    collapsed = (RATIOS > 0.15).astype(float)[None]
    assert fit(TERMS, collapsed, np.ones_like(collapsed), PLANE.spread)[0, RATIO] == 0


def test_information_is_the_curvature() -> None:
    """Of one term and one cell: n p (1 - p) + 1 / spread^2."""
    found = information(np.ones((1, 1)), np.array([[0.2]]), np.array([[5.0]]), np.array([2.0]))
    assert found[0, 0, 0] == pytest.approx(5 * 0.2 * 0.8 + 0.25)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_fit_is_a_maximum_and_independent_of_the_others(data: st.DataObject) -> None:
    n = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(TERMS), max_size=len(TERMS))), dtype=float)
    share = data.draw(st.lists(st.floats(0, 1), min_size=len(TERMS), max_size=len(TERMS)))
    collapsed = np.floor(n * np.array(share))
    alone = maximise(TERMS, collapsed[None], n[None], PLANE.spread)
    gradient = (collapsed - n * expit(TERMS @ alone[0])) @ TERMS - alone[0] / PLANE.spread**2
    assert np.abs(gradient).max() < 1e-5
    beside = maximise(TERMS, np.stack([n, collapsed]), np.stack([n, n]), PLANE.spread)
    assert beside[1] == pytest.approx(alone[0], abs=1e-6)
