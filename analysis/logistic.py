"""The chance of a collapse over the (prune rate, coreset ratio) plane: a logistic fit with a normal prior.

    logit P = b z + c + d x + e_p,   b <= 0,   b, c, d ~ N(0, SPREAD^2),   e_p ~ N(0, OFFSET^2)

z and x are the logarithms of the share of samples and of weights that is kept, each scaled to [-1, 1] over the grid;
e_p is an offset of every prune rate, so that the frontier follows the data where they leave a straight line, and the
line where they are few. Separation is the rule at few seeds, where the likelihood alone has no maximum; the prior gives
it one (a ridge). A larger coreset never makes a collapse likelier: b is 0 where the data say otherwise. [The terms
are our choice: on digits a line, or a parabola, missed the majority of seeds by a step of the grid.]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit

from analysis.inference import Floats

SPREAD, OFFSET = 5.0, 0.75
"""Standard deviations of the prior, in logits: a slope of 5 is 1.4 logits from one cell to the next on a grid of 8.

An offset of 0.75 foretells the collapses of other seeds better than one of 2, and follows the majority of the fitted
seeds about as well (five grids of digits, three seeds each).
"""
STEPS, HALVINGS, TOLERANCE = 100, 30, 1e-9
LEAST_KEPT = 1e-6  # p = 1 keeps nothing, and has no logarithm
RATIO = 0  # the term of the coreset ratio
LINE = 3  # terms before the offsets


@dataclass(frozen=True)
class Plane:
    """The grid's rates and ratios, each sorted and without doubles, as the coordinates of the fit."""

    prune_rates: tuple[float, ...]
    coreset_ratios: tuple[float, ...]

    @property
    def spread(self) -> Floats:
        """Standard deviation of the prior of each term."""
        return np.concatenate([np.full(LINE, SPREAD), np.full(len(self.prune_rates), OFFSET)])

    def terms(self, prune_rate: Sequence[float] | Floats, coreset_ratio: Sequence[float] | Floats) -> Floats:
        """The terms of the model at points of the plane's rates: (points, terms)."""
        centre, half = _span(np.log(self.coreset_ratios))
        z = (np.log(coreset_ratio) - centre) / half
        centre, half = _span(_kept(self.prune_rates))
        x = (_kept(prune_rate) - centre) / half
        own = np.asarray(prune_rate)[:, None] == np.array(self.prune_rates)
        return np.concatenate([np.stack([z, np.ones_like(x), x], axis=-1), own], axis=1)

    def log_frontier(self, weights_BK: Floats) -> Floats:
        """ln of the ratio at which P = 1/2 at every rate, (fits, rates).

        Held within one step of the grid beyond its ratios: further out a fit says nothing.
        """
        rates = np.array(self.prune_rates)
        rest_BR = weights_BK[:, 1:] @ self.terms(rates, np.ones_like(rates))[:, 1:].T
        slope_B1 = weights_BK[:, :1]
        with np.errstate(divide="ignore", invalid="ignore"):
            z_BR = np.where(slope_B1 < 0, -rest_BR / slope_B1, np.where(rest_BR > 0, np.inf, -np.inf))
        logs = np.log(self.coreset_ratios)
        centre, half = _span(logs)
        found: Floats = np.clip(
            centre + half * z_BR, logs[0] - np.diff(logs[:2]).sum(), logs[-1] + np.diff(logs[-2:]).sum()
        )
        return found


def _kept(prune_rate: Sequence[float] | Floats) -> Floats:
    return np.asarray(np.log(np.maximum(1 - np.asarray(prune_rate, dtype=np.float64), LEAST_KEPT)))


def _span(grid: Floats) -> tuple[float, float]:
    """Middle and half of the width; 1 where there is none."""
    low, high = float(grid.min()), float(grid.max())
    return (low + high) / 2, (high - low) / 2 or 1.0


def fit(terms_CK: Floats, collapsed_BC: Floats, n_BC: Floats, spread_K: Floats) -> Floats:
    """The weights (fits, terms) that are likeliest, given the collapsed of ``n`` runs of each cell in each fit."""
    weights_BK = maximise(terms_CK, collapsed_BC, n_BC, spread_K)
    wrong = weights_BK[:, RATIO] > 0
    if wrong.any():
        without = maximise(np.delete(terms_CK, RATIO, axis=1), collapsed_BC[wrong], n_BC[wrong], spread_K[1:])
        weights_BK[wrong] = np.insert(without, RATIO, 0.0, axis=1)
    return weights_BK


def maximise(terms_CK: Floats, collapsed_BC: Floats, n_BC: Floats, spread_K: Floats) -> Floats:
    """Newton's method with halved steps for all fits at once: the posterior is strictly concave.

    ``spread_K``: standard deviation of the prior of each term.
    """
    weights_BK = np.zeros((len(n_BC), terms_CK.shape[1]))
    value_B = _posterior(weights_BK, terms_CK, collapsed_BC, n_BC, spread_K)
    for _ in range(STEPS):
        chance_BC = expit(weights_BK @ terms_CK.T)
        slope_BK = (collapsed_BC - n_BC * chance_BC) @ terms_CK - weights_BK / spread_K**2
        step_BK = np.linalg.solve(information(terms_CK, chance_BC, n_BC, spread_K), slope_BK[..., None])[..., 0]
        share_B = np.ones(len(weights_BK))
        for _ in range(HALVINGS):
            next_BK = weights_BK + share_B[:, None] * step_BK
            next_B = _posterior(next_BK, terms_CK, collapsed_BC, n_BC, spread_K)
            worse = next_B < value_B - TOLERANCE
            if not worse.any():
                break
            share_B[worse] /= 2
        weights_BK, value_B = next_BK, next_B
        if np.abs(step_BK).max(initial=0.0) < TOLERANCE:
            break
    return weights_BK


def information(terms_CK: Floats, chance_BC: Floats, n_BC: Floats, spread_K: Floats) -> Floats:
    """Minus the second derivative of the posterior, (fits, terms, terms): the inverse of its covariance."""
    terms = terms_CK.shape[1]
    outer_CKK = (terms_CK[:, :, None] * terms_CK[:, None, :]).reshape(len(terms_CK), -1)
    found_BKK = ((n_BC * chance_BC * (1 - chance_BC)) @ outer_CKK).reshape(-1, terms, terms)
    return found_BKK + np.diag(spread_K**-2.0)


def _posterior(weights_BK: Floats, terms_CK: Floats, collapsed_BC: Floats, n_BC: Floats, spread_K: Floats) -> Floats:
    logit_BC = weights_BK @ terms_CK.T
    likelihood_BC = collapsed_BC * log_expit(logit_BC) + (n_BC - collapsed_BC) * log_expit(-logit_BC)
    return np.asarray(likelihood_BC.sum(axis=1) - ((weights_BK / spread_K) ** 2).sum(axis=1) / 2)
