"""The four arms of a confirmation, side by side on one scale: the paper's four panels as an experiment."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.confirmations import Confirmation
from analysis.counterfactual import ARMS
from analysis.figures.canvas import lines, new_figure, wrap

# Okabe and Ito's colours; markers say it again.
LOOK = {
    "neither": ("#000000", "D", "neither removed"),
    "weights": ("#E69F00", "s", "weights only"),
    "samples": ("#56B4E9", "^", "samples only"),
    "both": ("#D55E00", "o", "weights and samples"),
}
TITLE, TEXT, TICK, NOTE = 14.0, 12.0, 11.0, 10.0
WIDTH, LEFT, GAP, HIGH = 10.2, 0.78, 0.22, 2.7
REFERENCE = "#8a8a8a"
WINDOW = "#eef1f4"


def draw(info: Confirmation) -> Figure:
    """Accuracy over the epochs from the fork to the horizon; the gap to ``neither`` is written above each panel."""
    title = wrap(f"{info.verdict.title} · switch at epoch {info.epoch} · {info.label}", WIDTH - 0.4, 1.15 * TITLE)
    caption = wrap(_caption(info), WIDTH - 0.4, NOTE)
    top, bottom = 0.78 + 0.24 * lines(title), 0.75 + 0.18 * lines(caption)
    height = top + HIGH + bottom
    figure, wide = new_figure(WIDTH, height), (WIDTH - LEFT - 0.2 + GAP) / len(ARMS) - GAP
    low, high = _limits(info)
    for k, arm in enumerate(ARMS):
        place = (LEFT + k * (wide + GAP), bottom, wide, HIGH)
        axes = figure.add_axes((place[0] / WIDTH, place[1] / height, place[2] / WIDTH, place[3] / height))
        axes.set(xlim=(info.epoch - 1.4, info.horizon + 0.9), ylim=(low, high))
        _panel(axes, info, arm)
        axes.tick_params(labelsize=TICK, labelleft=k == 0)
        if k == 0:
            axes.set_ylabel("test accuracy (%)", size=TEXT)
    figure.text(0.2 / WIDTH, 1 - 0.16 / height, title, size=TITLE, weight="bold", va="top")
    figure.text(0.2 / WIDTH, 0.12 / height, caption, size=NOTE, va="bottom", linespacing=1.25)
    return figure


def _panel(axes: Axes, info: Confirmation, arm: str) -> None:
    colour, marker, name = LOOK[arm]
    axes.axvspan(info.epoch - 0.5, info.last + 0.5, color=WINDOW, linewidth=0, zorder=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("epoch", size=TEXT)
    axes.set_title(f"{name}\n{_above(info, arm)}", size=TEXT, loc="left", linespacing=1.3)
    shown = _course(info, arm)
    if arm != "neither":
        reference = _course(info, "neither")
        axes.plot(reference["epoch"], reference["mean"], color=REFERENCE, linestyle="--", linewidth=1.2, zorder=2)
        _gap(axes, info.horizon + 0.45, reference["mean"].iloc[-1], shown["mean"].iloc[-1])
    axes.fill_between(shown["epoch"], shown["lo"], shown["hi"], color=colour, alpha=0.25, linewidth=0, zorder=1)
    look: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.5}
    axes.plot(shown["epoch"], shown["mean"], color=colour, marker=marker, linewidth=1.8, zorder=3, **look)


def _course(info: Confirmation, arm: str) -> pd.DataFrame:
    """Per cent by epoch, from the state that all arms begin with; bands are cut where accuracy ends."""
    rows = info.trajectories[info.trajectories["arm"] == arm].sort_values("epoch")
    start = pd.DataFrame({"epoch": [info.epoch - 1], **{name: [info.before] for name in ("mean", "lo", "hi")}})
    course = pd.concat([start, rows[["epoch", "mean", "lo", "hi"]]], ignore_index=True)
    course[["mean", "lo", "hi"]] = (100 * course[["mean", "lo", "hi"]]).clip(0, 100)
    return course


def _gap(axes: Axes, x: float, above: float, below: float) -> None:
    if abs(above - below) >= 2:
        arrow = {"arrowstyle": "<->", "color": "#333333", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(x, above), xytext=(x, below), arrowprops=arrow)


def _above(info: Confirmation, arm: str) -> str:
    if arm in info.verdict.gaps:
        return f"gap {info.verdict.gaps[arm].points()}"
    return f"ends at {_course(info, arm)['mean'].iloc[-1]:.1f} %"


def _limits(info: Confirmation) -> tuple[float, float]:
    """One scale for all panels, never narrower than 10 points, so that noise does not fill it."""
    shown = pd.concat([_course(info, arm) for arm in ARMS])[["mean", "lo", "hi"]].to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    low = min(low, high - 10)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _caption(info: Confirmation) -> str:
    verdict = info.verdict
    return (
        f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. Interaction {verdict.interaction.points()}. Mean over "
        f"n = {verdict.n} new data orders and 95 % t-interval, percentage points; dashed: neither removed. Shaded: "
        f"the window (epochs {info.epoch} to {info.last}) in which an arm may remove; after it nothing more is removed."
    )
