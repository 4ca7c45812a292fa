"""Pruning and choosing samples on Runge's function: the two figures of ``analysis.interplay``."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from analysis.figures.canvas import lines, new_figure, wrap
from analysis.interplay import (
    CLEAN,
    DEGREE,
    NOISY,
    PAPER,
    PLACES,
    POINTS,
    READINGS,
    ZEROED,
    Draw,
    dearer,
    powers,
    runge,
    zeroed,
)

# Okabe and Ito's colours; markers and dashes say it again.
FITS = {
    "all": ("#D55E00", "-", "all 10"),
    "without_noise": ("#999999", "-.", "all 10, no noise"),
    "clean": ("#0072B2", "--", "5 clean"),
}
LOOK: dict[str, tuple[str, str]] = {
    "supremum": ("#0072B2", "o"),
    "supremum_of_subset": ("#CC79A7", "s"),
    "at_fit": ("#56B4E9", "^"),
    "excess": ("#009E73", "D"),
}
TITLE, TEXT, TICK, NOTE = 14.0, 12.0, 11.0, 10.0
WIDTH, HIGH, LEFT, GAP = 10.2, 3.6, 0.85, 0.85
CEILING = 1e12


def draw_pruning(one: Draw, found: pd.DataFrame) -> Figure:
    """Left: one draw of the noise with its pruned fits. Right: how far they are from f, over all draws."""
    caption = (
        f"Degree-{DEGREE} least squares on {POINTS} points, every second one with N(0, 0.1) noise; then the {ZEROED} "
        f"smallest coefficients are zeroed. The fit of all points is farther from f than that of the clean five in "
        f"{dearer(found):.0%} of n = {found['repetition'].nunique()} draws. Without noise the ten points give an even "
        "polynomial, whose zeroed coefficients are 0 already. Left: one draw. Right: all of them, median, quartiles, "
        "whiskers from 5 to 95 %; without noise there is one value."
    )
    figure, (left, right) = _panels("Noisy samples make pruning cost more, on Runge's function", caption, 2)
    x = np.linspace(-1, 1, 401)
    left.plot(x, runge(x), color="black", linewidth=1.2, label="f, Runge's function")
    for name, (colour, dashes, said) in FITS.items():
        curve = powers(x, DEGREE) @ zeroed(one.fits[name], ZEROED)
        left.plot(x, curve, color=colour, linestyle=dashes, linewidth=1.8, label=said)
    for of, face, said in ((one.clean, "black", "clean"), (~one.clean, "white", "noisy")):
        left.plot(one.x[of], one.y[of], "o", color="black", markerfacecolor=face, markersize=6, label=said)
    left.set(ylim=(-4, 4))
    left.xaxis.set_major_locator(MultipleLocator(0.5))
    left.set_xlabel("x", size=TEXT)
    left.set_ylabel("y, pruned fits", size=TEXT)
    left.legend(fontsize=NOTE, frameon=False, ncols=2, labelspacing=0.25)
    _boxes(right, found)
    return figure


def _boxes(axes: Axes, found: pd.DataFrame) -> None:
    values = [found.loc[found["fitted"] == name, "distance"] for name in FITS]
    drawn: Any = axes.boxplot(values, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.55)
    for box, median, (colour, _, _) in zip(drawn["boxes"], drawn["medians"], FITS.values(), strict=True):
        box.set(facecolor=colour, edgecolor=colour, alpha=0.6)
        median.set(color="black", linewidth=1.8)
    before = [found.loc[found["fitted"] == name, "unpruned"].median() for name in FITS]
    places = range(1, 1 + len(FITS))
    axes.plot(places, before, "D", color="black", markerfacecolor="white", zorder=4, label="before pruning (median)")
    axes.legend(fontsize=NOTE, frameon=False)
    axes.set_xticks(places, [said.replace(", ", "\n") for _, _, said in FITS.values()])
    axes.set_yscale("log")
    axes.set_ylabel("mean squared distance from f", size=TEXT)


def draw_degrees(found: pd.DataFrame) -> Figure:
    """The interplay by degree, a panel for each way to place the points, every reading beside the paper's values."""
    caption = (
        f"L on {NOISY} noisy and {CLEAN} clean points, L̂ on the clean ones; median and quartiles of n = "
        f"{int(found['n'].max())} draws of the noise. Black: values read off the paper's figure. The printed "
        f"definition cannot exceed {(NOISY + CLEAN) / CLEAN - 1:g}; it is the excess loss, at equispaced points, that "
        "grows as the figure does. Lines that leave their panel go on to infinity: polynomials of high "
        "degree fit the clean points exactly."
    )
    figure, panels = _panels("Interplay I(D, D̂) by degree: what may have been computed", caption, 2)
    for axes, place in zip(panels, PLACES, strict=True):
        for name, (said, _) in READINGS.items():
            rows = found[(found["points"] == place) & (found["reading"] == name)]
            _reading(axes, rows, name, said)
        degrees, values = list(PAPER), list(PAPER.values())
        axes.plot(
            degrees, values, "k*", markersize=10, linestyle=":", linewidth=1.0, label="the paper's figure", zorder=4
        )
        axes.set_yscale("log")
        axes.set(ylim=(1e-3, CEILING))
        axes.xaxis.set_major_locator(MultipleLocator(2))
        axes.set_xlabel("degree of the polynomial", size=TEXT)
        axes.set_title(f"{place} points", size=TEXT, loc="left")
    panels[0].set_ylabel("I(D, D̂)", size=TEXT)
    panels[0].legend(fontsize=NOTE, framealpha=1, edgecolor="white", loc="upper left", labelspacing=0.25)
    return figure


def _reading(axes: Axes, rows: pd.DataFrame, name: str, said: str) -> None:
    colour, marker = LOOK[name]
    shown = rows[["lo", "median", "hi"]].clip(upper=CEILING**2)  # infinity cannot be drawn, a far point can
    axes.plot(rows["degree"], shown["median"], color=colour, marker=marker, markersize=5, linewidth=1.6, label=said)
    axes.fill_between(rows["degree"], shown["lo"], shown["hi"], color=colour, alpha=0.2, linewidth=0)


def _panels(title: str, caption: str, number: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side between its title and its caption."""
    above, below = wrap(title, WIDTH - 0.4, 1.15 * TITLE), wrap(caption, WIDTH - 0.4, NOTE)
    top, bottom = 0.45 + 0.24 * lines(above), 0.85 + 0.18 * lines(below)
    height, wide = top + HIGH + bottom, (WIDTH - LEFT - 0.2 + GAP) / number - GAP
    figure = new_figure(WIDTH, height)
    panels = []
    for k in range(number):
        place = ((LEFT + k * (wide + GAP)) / WIDTH, bottom / height, wide / WIDTH, HIGH / height)
        axes = figure.add_axes(place)
        axes.tick_params(labelsize=TICK)
        axes.grid(color="#dddddd", linewidth=0.6, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        panels.append(axes)
    figure.text(0.2 / WIDTH, 1 - 0.14 / height, above, size=TITLE, weight="bold", va="top")
    figure.text(0.2 / WIDTH, 0.12 / height, below, size=NOTE, va="bottom", linespacing=1.25)
    return figure, panels
