"""Runge's function: losses and suprema worked by hand, bounds, and what the paper's figures show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis import interplay as ip
from analysis.figures import interplay as figures
from analysis.inference import Floats


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return ip.interplay(5)


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def test_runge_and_its_fit_by_hand() -> None:
    """f(1/5) = 1/2, f(1) = 1/26; through (-1, 1), (0, 0), (1, 1) goes x^2, and 2 x^2 - 1 of least norm has loss 0."""
    assert ip.runge(array(0, 0.2, 1)).tolist() == [1, 0.5, 1 / 26]
    theta = ip.fit(array(-1, 0, 1), array(1, 0, 1), 2)
    assert theta == pytest.approx([0, 0, 1], abs=1e-12)
    assert ip.loss(array(0, 0, 1), array(0, 2), array(1, 1)) == (1 + 9) / 2


def test_the_smallest_coefficients_are_zeroed_ties_at_the_lower_power() -> None:
    assert ip.zeroed(array(-3, 1, -2, 1, 4), 1).tolist() == [-3, 0, -2, 1, 4]
    assert ip.zeroed(array(-3, 1, -2, 1, 4), 3).tolist() == [-3, 0, 0, 0, 4]


def test_every_reading_by_hand() -> None:
    """A constant t on D = {0, 2} with the subset {0}: L = (t^2 + (t - 2)^2) / 2 and L^ = t^2.

    With u = t - 1, abs(L - L^) / L = 2 abs(u) / (u^2 + 1), at most 1 (u = 1 or -1). Over L^ = t^2 it has no bound. The
    subset's fit is t = 0: there L = 2 and L^ = 0, and min L = 1 at t = 1.
    """
    two = ip.Losses(array(0, 0.5), array(0, 2), np.array([True, False]), 0)
    assert two.supremum() == pytest.approx(1)
    assert two.supremum_of_subset() == np.inf
    assert two.at_fit() == pytest.approx(1)
    assert two.excess() == pytest.approx(1)


def test_a_bounded_supremum_of_the_subset_by_hand() -> None:
    """A constant on D = {-1, 1, 0, 0}, subset {-1, 1}: L = t^2 + 1/2, L^ = t^2 + 1.

    abs(L - L^) / L is largest at t = 0, (1/2) / (1/2); over L^ it is (1/2) / 1 there.
    """
    four = ip.Losses(array(0, 0.1, 0.2, 0.3), array(-1, 1, 0, 0), np.array([True, True, False, False]), 0)
    assert four.supremum() == pytest.approx(1)
    assert four.supremum_of_subset() == pytest.approx(0.5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), degree=st.integers(0, 9), place=st.sampled_from(ip.PLACES))
def test_no_coefficients_exceed_the_supremum_and_it_is_bounded(seed: int, degree: int, place: str) -> None:
    rng = np.random.default_rng(seed)
    losses = ip._losses(place, degree, rng)
    supremum = losses.supremum()
    assert supremum <= (ip.NOISY + ip.CLEAN) / ip.CLEAN - 1 + 1e-9
    for _ in range(10):
        theta = rng.normal(0, 2, degree + 1)
        whole = ip.loss(theta, losses.x, losses.y)
        part = ip.loss(theta, losses.x[losses.subset], losses.y[losses.subset])
        assert abs(whole - part) / whole <= supremum * (1 + 1e-9)
    assert losses.at_fit() <= supremum * (1 + 1e-9)
    assert losses.excess() >= -1e-9


def test_without_noise_pruning_ten_points_is_free() -> None:
    """They lie evenly about 0 and f is even, so the odd coefficients are 0, and these are the smallest."""
    one = ip.drawn(np.random.default_rng(0))
    theta = ip.zeroed(one.fits["without_noise"], ip.ZEROED)
    assert np.abs(theta[1::2]).max() < 1e-9
    assert ip.loss(theta, one.x, ip.runge(one.x)) < 1e-12
    assert all(np.count_nonzero(ip.zeroed(fit, ip.ZEROED)) == 8 for fit in one.fits.values())
    assert np.array_equal(one.y[one.clean], ip.runge(one.x[one.clean]))


def test_noise_makes_pruning_dearer() -> None:
    rows = ip.pruning(60)
    assert ip.dearer(rows) > 0.9
    median = rows.groupby("fitted")[["unpruned", "distance"]].median()
    assert median.loc["all", "unpruned"] < median.loc["clean", "unpruned"] * 3
    assert median.loc["all", "distance"] > 1
    assert median.loc["without_noise", "distance"] == pytest.approx(median.loc["without_noise", "unpruned"])
    pd.testing.assert_frame_equal(rows.iloc[:30], ip.pruning(10))


def test_dearer_counts_draws() -> None:
    rows = [
        (k, name, value)
        for k, pair in enumerate([(2, 1), (1, 2), (3, 1), (1, 1)])
        for name, value in zip(("all", "clean"), pair, strict=True)
    ]
    assert ip.dearer(pd.DataFrame(rows, columns=["repetition", "fitted", "distance"])) == 0.5


def test_the_excess_loss_at_equispaced_points_is_near_the_papers_figure(found: pd.DataFrame) -> None:
    """Within a factor of five at each of its points, over six decades; no other reading is."""

    def worst(points: str, reading: str) -> float:
        rows = found[(found["points"] == points) & (found["reading"] == reading)].dropna()
        return float(np.abs(np.log(rows["median"] / rows["paper"])).max())

    factors = {(p, r): np.exp(worst(p, r)) for p in ip.PLACES for r in ip.READINGS}
    assert factors.pop(("equispaced", "excess")) < 5
    assert min(factors.values()) > 50


def test_the_printed_definition_is_bounded_as_the_design_says(found: pd.DataFrame) -> None:
    random = found[(found["points"] == "random") & (found["reading"] == "supremum")].set_index("degree")["median"]
    assert random[1] == pytest.approx(0.37, abs=0.12)
    assert random[20] == pytest.approx(2.4, abs=0.15)


def test_interplay_table(found: pd.DataFrame) -> None:
    assert len(found) == 2 * 4 * 20
    assert (found["n"] == 5).all()
    assert (found["lo"] <= found["median"]).all()
    assert (found["median"] <= found["hi"]).all()
    assert found.loc[found["degree"] == 14, "paper"].tolist() == [2.0] * 8


def test_figures(found: pd.DataFrame) -> None:
    rows = ip.pruning(10)
    for figure in (figures.draw_pruning(ip.drawn(np.random.default_rng(0)), rows), figures.draw_degrees(found)):
        assert isinstance(figure, Figure)
        assert len(figure.axes) == 2
    shown = {line.get_label() for line in figure.axes[0].lines}
    assert shown == {said for said, _ in ip.READINGS.values()} | {"the paper's figure"}
