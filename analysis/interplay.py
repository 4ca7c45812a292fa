"""Why pruning and choosing samples touch each other: SWaST's two experiments on Runge's function [arXiv 2511.09901].

f(x) = 1 / (1 + 25 x^2) on [-1, 1], least-squares polynomials in powers of x. Our readings: "N(0, 0.1)" is a standard
deviation of 0.1; of the ten points of the first experiment every second one is clean; a fit with fewer points than
coefficients is the one of least norm, as every linear-algebra library returns it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from analysis.inference import Floats

NOISE = 0.1
POINTS, DEGREE, ZEROED = 10, 10, 3
NOISY, CLEAN = 50, 20
DEGREES = tuple(range(1, 21))
PAPER = {1: 2e-3, 6: 5e-2, 10: 0.3, 14: 2.0, 16: 35.0, 18: 1.4e3, 20: 4e3}
"""The interplay by degree, read off the paper's figure."""
PLACES = ("equispaced", "random")


def runge(x: Floats) -> Floats:
    """The function that is fitted."""
    return 1 / (1 + 25 * x**2)


def powers(x: Floats, degree: int) -> Floats:
    """1, x, ..., x^degree in columns."""
    return np.vander(x, degree + 1, increasing=True)


def fit(x: Floats, y: Floats, degree: int) -> Floats:
    """Coefficients of the least-squares polynomial, constant first; of least norm where there are several."""
    found, *_ = np.linalg.lstsq(powers(x, degree), y, rcond=None)
    return np.asarray(found, dtype=np.float64)


def zeroed(coefficients: Floats, count: int) -> Floats:
    """The coefficients without the ``count`` smallest magnitudes, ties to the lower power."""
    kept = coefficients.copy()
    kept[np.argsort(np.abs(coefficients), kind="stable")[:count]] = 0
    return kept


def loss(coefficients: Floats, x: Floats, y: Floats) -> float:
    """Mean squared error on the points."""
    return float(np.mean((powers(x, len(coefficients) - 1) @ coefficients - y) ** 2))


# --- A: pruned weights and noisy samples -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """One draw of the noise on ten points, every second of which is clean, and three fits, not yet pruned.

    ``fits``, by name: ``all`` ten points, the five ``clean`` ones, and all ten ``without_noise``.
    """

    x: Floats
    y: Floats
    clean: NDArray[np.bool_]
    fits: Mapping[str, Floats]


def drawn(rng: np.random.Generator) -> Draw:
    """The three fits of one draw."""
    x = np.linspace(-1, 1, POINTS)
    clean = np.arange(POINTS) % 2 == 0
    true = runge(x)
    y = true + np.where(clean, 0.0, rng.normal(0, NOISE, POINTS))
    data = {"all": (x, y), "clean": (x[clean], y[clean]), "without_noise": (x, true)}
    return Draw(x, y, clean, {name: fit(*points, DEGREE) for name, points in data.items()})


def pruning(repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Experiment A, one row per draw of the noise and fit: ``repetition, fitted, loss, distance, unpruned``.

    ``loss`` is the pruned polynomial's on all ten points as drawn; ``distance`` its mean squared one from f itself, on
    401 points of [-1, 1], and ``unpruned`` the same before the three smallest coefficients are zeroed.
    """
    curve = np.linspace(-1, 1, 401)
    rows = []
    for k in range(repetitions):
        one = drawn(np.random.default_rng((seed, k)))
        for name, whole in one.fits.items():
            theta = zeroed(whole, ZEROED)
            own, distance = loss(theta, one.x, one.y), loss(theta, curve, runge(curve))
            far = {"loss": own, "distance": distance, "unpruned": loss(whole, curve, runge(curve))}
            rows.append({"repetition": k, "fitted": name, **far})
    return pd.DataFrame(rows)


def dearer(found: pd.DataFrame) -> float:
    """The share of draws in which pruning leaves the fit of all points farther from f than that of the clean ones."""
    distance = found.pivot_table(index="repetition", columns="fitted", values="distance")
    return float((distance["all"] > distance["clean"]).mean())


# --- B: how far apart two losses can be ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """The losses of degree-``degree`` polynomials on a data set D (x, y) and on a subset of it (where ``subset``)."""

    x: Floats
    y: Floats
    subset: NDArray[np.bool_]
    degree: int

    def excess(self) -> float:
        """(L(t) - min L) / min L at the subset's own fit t."""
        best = self._of(fit(self.x, self.y, self.degree))[0]
        return _ratio(self._of(self._chosen())[0] - best, best)

    def at_fit(self) -> float:
        """abs(L - L^) / L at the subset's own fit."""
        whole, part = self._of(self._chosen())
        return _ratio(abs(whole - part), whole)

    def supremum(self) -> float:
        """The largest abs(L - L^) / L over all coefficients, as the paper defines it.

        Both losses are quadratic forms in (coefficients, 1): a generalised eigenvalue problem. Bounded, as D holds the
        subset: L^ <= (|D| / |subset|) L.
        """
        return float(np.abs(1 - self._relative()).max())

    def supremum_of_subset(self) -> float:
        """The same over L^ in place of L; infinite where some coefficients fit the subset exactly."""
        return float(max(_ratio(abs(1 - r), r) for r in self._relative()))

    def _relative(self) -> Floats:
        """The stationary values of L^ / L: squared singular values of the subset in the metric of D."""
        # Legendre polynomials span the same functions and keep the 20th degree well-conditioned.
        both = np.column_stack([np.polynomial.legendre.legvander(self.x, self.degree), -self.y])
        metric = np.linalg.qr(both, mode="r")
        part = solve_triangular(metric, both[self.subset].T, trans="T")
        values = np.zeros(both.shape[1])
        found = np.linalg.svd(part, compute_uv=False) ** 2
        values[: len(found)] = found
        return values * len(self.x) / int(self.subset.sum())

    def _chosen(self) -> Floats:
        return fit(self.x[self.subset], self.y[self.subset], self.degree)

    def _of(self, theta: Floats) -> tuple[float, float]:
        return loss(theta, self.x, self.y), loss(theta, self.x[self.subset], self.y[self.subset])


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else np.inf if a > 0 else 0.0


READINGS: Mapping[str, tuple[str, Callable[[Losses], float]]] = {
    "supremum": ("sup |L − L̂| / L, as printed (generalised eigenvalue)", Losses.supremum),
    "supremum_of_subset": ("sup |L − L̂| / L̂", Losses.supremum_of_subset),
    "at_fit": ("|L − L̂| / L at the fit of the clean points", Losses.at_fit),
    "excess": ("(L − min L) / min L at the fit of the clean points", Losses.excess),
}
"""What may have been computed, in words, and how."""


def interplay(repetitions: int, seed: int = 0) -> pd.DataFrame:
    """Experiment B: every reading by degree and by where the points lie (``PLACES``), over draws of the noise.

    Columns: points, reading, degree, n, mean, sd, median, lo and hi (quartiles), paper (NaN where nothing is read off).
    D holds 50 noisy and 20 clean points, each equispaced on [-1, 1] or uniformly drawn; the subset is the clean ones.
    """
    rows = []
    for place, k, degree in product(PLACES, range(repetitions), DEGREES):
        losses = _losses(place, degree, np.random.default_rng((seed, k)))
        at = {"points": place, "degree": degree}
        rows += [{**at, "reading": name, "value": read(losses)} for name, (_, read) in READINGS.items()]
    groups = pd.DataFrame(rows).groupby(["points", "reading", "degree"], sort=False)["value"]
    found = groups.agg(n="count", mean="mean", sd="std", median="median").reset_index()
    for name, share in (("lo", 0.25), ("hi", 0.75)):
        found[name] = groups.quantile(share, interpolation="nearest").to_numpy()
    return found.assign(paper=found["degree"].map(PAPER))


def _losses(place: str, degree: int, rng: np.random.Generator) -> Losses:
    def points(n: int) -> Floats:
        return np.linspace(-1, 1, n) if place == "equispaced" else rng.uniform(-1, 1, n)

    x = np.concatenate([points(NOISY), points(CLEAN)])
    subset = np.arange(len(x)) >= NOISY
    return Losses(x, runge(x) + np.where(subset, 0.0, rng.normal(0, NOISE, len(x))), subset, degree)
