"""Intervals and tests on one contrast per seed, vectorised over cells.

Matrices are (cells, seeds), padded with NaN: a seed that does not pair is simply absent.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its stats, which take a second, are loaded when they are used
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tail = Literal["two-sided", "greater"]

CONFIDENCE = 0.95
LEVEL = 0.05
PERMUTATION_FROM = 10
RESAMPLES = 9_999
AGREED = 1e-5
"""A contrast of fractions below this is none, and with a standard deviation below it the seeds agree: one sample of
50 000 weighs twice as much. What is left is the curvature of a measure, or rounding."""


@dataclass(frozen=True)
class Summary:
    """Per cell: number of seeds, mean, standard deviation (n - 1) and 95 % t-interval."""

    n: NDArray[np.int64]
    mean: Floats
    sd: Floats
    lo: Floats
    hi: Floats


def summarise(values_CS: Floats) -> Summary:
    """Mean and 95 % t-interval of each row.

    No interval at n = 1, and none where all seeds agree to rounding: a width of zero would
    claim certainty that n equal numbers do not give.
    """
    ordered = np.sort(values_CS, axis=1)  # sums then do not depend on the order of the seeds
    n = np.isfinite(ordered).sum(axis=1)
    mean = _divide(np.nansum(ordered, axis=1), n)
    squares = np.nansum((ordered - mean[:, None]) ** 2, axis=1)
    sd = np.where(n > 1, np.sqrt(_divide(squares, n - 1)), np.nan)
    half = half_width(sd, n)
    half = np.where(sd > _rounding(mean), half, np.nan)
    return Summary(n, mean, sd, mean - half, mean + half)


def half_width(sd: Floats, n: NDArray[np.int64]) -> Floats:
    """Half of the 95 % t-interval of a mean; NaN below two values, and where all agree to rounding."""
    quantile = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, np.where(n > 1, n - 1, np.nan))
    return np.asarray(quantile * _divide(np.where(sd > AGREED, sd, np.nan), np.sqrt(n)))


def paired_test(values_CS: Floats, tail: Tail = "two-sided") -> Floats:
    """p per row for mean contrast = 0: t below 10 seeds, sign-flip permutation from 10.

    NaN with fewer than two seeds, or where a t-test meets seeds that all agree.
    """
    values_CS = np.where(np.abs(values_CS) < AGREED, 0.0, values_CS)
    found = summarise(values_CS)
    t = _divide(found.mean, found.sd / np.sqrt(np.maximum(found.n, 1)))
    t = np.where(found.sd > _rounding(found.mean), t, np.nan)
    df = np.where(found.n > 1, found.n - 1, np.nan)
    p = scipy.stats.t.sf(t, df) if tail == "greater" else 2 * scipy.stats.t.sf(np.abs(t), df)
    p = np.asarray(p, dtype=np.float64)
    ordered = np.sort(values_CS, axis=1)
    for n in np.unique(found.n[found.n >= PERMUTATION_FROM]):
        rows = found.n == n
        p[rows] = sign_flip(ordered[rows, :n], tail)
    return p


def sign_flip(values_CS: Floats, tail: Tail = "two-sided") -> Floats:
    """p of the sign-flip permutation test of the mean, each row without NaN.

    Exact over all 2^S flips up to 13 seeds, else over 9 999 random ones (fixed seed, the
    identity counted). As scipy.stats.permutation_test(permutation_type="samples"), but all
    cells share the flips, so that the null distribution is one matrix product.
    """
    signs_SR = _signs(values_CS.shape[1])
    total_C1 = values_CS.sum(axis=1, keepdims=True)
    slack = 1e-12 * np.abs(values_CS).sum(axis=1, keepdims=True)  # equal sums, other order
    p = np.empty(len(values_CS))
    for start in range(0, len(p), 512):
        part = slice(start, start + 512)
        null_CR = values_CS[part] @ signs_SR
        upper = (null_CR >= total_C1[part] - slack[part]).mean(axis=1)
        lower = (null_CR <= total_C1[part] + slack[part]).mean(axis=1)
        p[part] = upper if tail == "greater" else np.minimum(1, 2 * np.minimum(upper, lower))
    return p


def welch(slope_RC: Floats, sd_RC: Floats, n_RC: NDArray[np.int64], value_C: Floats) -> tuple[Floats, Floats]:
    """Unpaired 95 % interval around ``value_C``, a function of independent group means.

    slope is its derivative by each group's mean (0 where the group does not enter). Variance
    sum slope^2 sd^2 / n, Welch-Satterthwaite degrees of freedom; NaN when a group that enters
    has fewer than two values.
    """
    part = np.where(slope_RC == 0, 0.0, slope_RC**2 * _divide(sd_RC**2, n_RC))
    variance = part.sum(axis=0)
    df = _divide(variance**2, _divide(part**2, np.where(part == 0, 1, n_RC - 1)).sum(axis=0))
    half = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, df) * np.sqrt(variance)
    return value_C - half, value_C + half


def wilson(successes: NDArray[np.int64], n: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """95 % score interval of a share of ``n`` trials (Wilson 1927); NaN where there is none."""
    z = scipy.stats.norm.ppf(0.5 + CONFIDENCE / 2)
    share = _divide(successes, n)
    centre = _divide(successes + z**2 / 2, n + z**2)
    half = z * np.sqrt(share * (1 - share) * n + z**2 / 4) / (n + z**2)
    # At 0 and n the ends are 0 and 1 but for rounding.
    return np.where(successes == 0, 0 * share, centre - half), np.where(successes == n, share, centre + half)


def false_discovery(p: Floats, family: NDArray[np.int64]) -> Floats:
    """Benjamini-Hochberg q within each family; a NaN p is no member and stays NaN."""
    q = np.full(len(p), np.nan)
    for name in np.unique(family):
        members = (family == name) & np.isfinite(p)
        if members.any():
            q[members] = scipy.stats.false_discovery_control(p[members], method="bh")
    return q


def _signs(seeds: int) -> Floats:
    if 2**seeds <= RESAMPLES:
        codes = np.arange(2**seeds)
        heads = (codes[None, :] >> np.arange(seeds)[:, None]) & 1
        return (1 - 2 * heads).astype(np.float64)
    flips = np.random.default_rng(0).integers(0, 2, size=(seeds, RESAMPLES + 1))
    flips[:, 0] = 0
    return (1 - 2 * flips).astype(np.float64)


def _rounding(mean: Floats) -> Floats:
    return np.maximum(1e-9 * np.abs(mean), AGREED)


def _divide(a: Floats | NDArray[np.int64], b: Floats | NDArray[np.int64]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, np.asarray(a, dtype=np.float64) / b, np.nan)
