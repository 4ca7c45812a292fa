"""Accuracy against FLOPs: bubble area is seconds, the Pareto front is a line."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from analysis.figures.canvas import LARGE, NORMAL, SMALL, new_figure, wrap
from analysis.inference import Floats

# Okabe and Ito's colours: told apart under every common colour deficiency; shapes say it again.
# The last number makes areas of different shapes equal (a marker's size is its bounding box).
LOOK = {
    "dense": ("#000000", "D", "dense", 0.79),
    "prune_only": ("#E69F00", "s", "prune-only", 0.79),
    "coreset_only": ("#56B4E9", "^", "coreset-only", 1.57),
    "joint": ("#0072B2", "o", "joint", 1.0),
}
WIDTH, HEIGHT = 7.2, 5.4


def draw(points: pd.DataFrame, label: str) -> Figure:
    """``points`` of one experiment, as ``analysis.cost.points`` gives them, with flops_relative."""
    shown = points[np.isfinite(points["flops_relative"]) & (points["flops_relative"] > 0)]
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.1, 0.27, 0.87, 0.61))
    area = _areas(shown)
    for role, (colour, marker, _, share) in LOOK.items():
        at = (shown["role"] == role).to_numpy()
        axes.scatter(
            shown["flops_relative"][at],
            100 * shown["mean"][at],
            s=share * area[at],
            c=colour,
            marker=marker,
            alpha=0.55,
            linewidths=0.6,
            edgecolors="black",
            zorder=3,
        )
    _intervals(axes, shown)
    front = shown[shown["front"]].sort_values("flops_relative")
    axes.plot(front["flops_relative"], 100 * front["mean"], color="#D55E00", linewidth=1.6, zorder=2)
    _decorate(axes, shown)
    _annotate(axes, front)
    figure.text(
        0.03,
        0.97,
        f"Final test accuracy against cost · {label}",
        size=LARGE,
        weight="bold",
        va="top",
    )
    figure.text(0.03, 0.02, wrap(_caption(shown), WIDTH - 0.4), size=SMALL, va="bottom", linespacing=1.25)
    return figure


def _areas(points: pd.DataFrame) -> Floats:
    """Marker areas in points squared, proportional to seconds; equal where those are unknown."""
    if "seconds" not in points or not points["seconds"].max() > 0:
        return np.full(len(points), 50.0)
    share: Floats = (points["seconds"].fillna(0) / points["seconds"].max()).to_numpy(dtype=np.float64)
    return np.maximum(220 * share, 12.0)


def _intervals(axes: Axes, points: pd.DataFrame) -> None:
    """Intervals over seeds, cut where accuracy ends."""
    mean, half = 100 * points["mean"], 50 * (points["hi"] - points["lo"]).fillna(0)
    axes.errorbar(
        points["flops_relative"],
        mean,
        yerr=np.stack([np.minimum(half, mean), np.minimum(half, 100 - mean)]),
        fmt="none",
        ecolor="#666666",
        elinewidth=0.7,
        zorder=2,
    )


def _decorate(axes: Axes, points: pd.DataFrame) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel("FLOPs relative to dense training on all data", size=NORMAL)
    axes.set_ylabel("test accuracy (%)", size=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color="#e4e4e4", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    present = [v for role, v in LOOK.items() if (points["role"] == role).any()]
    marks = [Line2D([], [], color=c, marker=m, linestyle="", markersize=7, label=said) for c, m, said, _ in present]
    marks.append(Line2D([], [], color="#D55E00", linewidth=1.6, label="Pareto front"))
    axes.legend(handles=marks, loc="lower right", fontsize=SMALL, frameon=True, framealpha=0.9)


def _annotate(axes: Axes, front: pd.DataFrame) -> None:
    """(p, a) of the front's points, above them; a label that would touch another is left out."""
    taken: list[Bbox] = []
    columns = ("prune_rate", "coreset_ratio", "flops_relative", "mean")
    for p, ratio, flops, mean in zip(*(front[c].to_list()[::-1] for c in columns), strict=True):
        text = axes.annotate(
            f"{100 * p:.4g} / {100 * ratio:.4g}",
            (flops, 100 * mean),
            xytext=(-6, 9),
            textcoords="offset points",
            ha="right",
            size=SMALL,
            zorder=4,
        )
        box = text.get_window_extent().padded(4)
        if box.x0 < axes.bbox.x0 or any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _caption(points: pd.DataFrame) -> str:
    n = points["n"]
    seeds = f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()} to {n.max()}"
    times = ""
    if "seconds" in points and points["seconds"].max() > 0:
        times = f"Area: seconds of a run (largest {points['seconds'].max():.3g} s). "
    return (
        f"Each point is a treatment: mean over seeds ± half-width of the 95 % t-interval, {seeds}. "
        f"{times}Labels on the front: prune rate / coreset ratio in %; labels that would overlap "
        "are left out, the table has them all. Intervals are cut at 0 and 100 %. FLOPs: sparse training and selection, "
        "theoretical."
    )
