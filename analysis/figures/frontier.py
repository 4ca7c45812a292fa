"""Accuracy against FLOPs: bubble area is seconds, the Pareto front is a line."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures.canvas import DPI, lines, new_figure, wrap
from analysis.inference import Floats

# Okabe and Ito's colours: told apart under every common colour deficiency; shapes say it again.
# The last number makes areas of different shapes equal (a marker's size is its bounding box).
LOOK = {
    "dense": ("#000000", "D", "dense", 0.79),
    "prune_only": ("#E69F00", "s", "prune-only", 0.79),
    "coreset_only": ("#56B4E9", "^", "coreset-only", 1.57),
    "joint": ("#0072B2", "o", "joint", 1.0),
}
# Sizes in points that can still be read when the figure is shown at half its width.
TITLE, TEXT, TICK, NOTE = 14.0, 12.0, 11.0, 10.0
WIDTH, AXES_HEIGHT = 7.2, 4.0
FRONT = "#D55E00"
LARGEST, SMALLEST = 220.0, 0.055
"""Area of the dearest treatment's marker in points squared, and the share of it that no other falls below."""
# Where a label may go, in order of preference: points from its point, and directions. None is
# right above or below: the line to the label would pass for a part of the interval.
DISTANCES = (5.0, 12.0, 22.0, 36.0, 54.0, 76.0, 102.0)
DIRECTIONS = ((-0.4, 1), (0.4, 1), (-1, 1), (1, 1), (1, -1), (0.4, -1), (-0.4, -1), (-1, -1), (-1, 0), (1, 0))


def draw(points: pd.DataFrame, label: str) -> Figure:
    """``points`` of one experiment, as ``analysis.cost.points`` gives them, with flops_relative."""
    shown = points[np.isfinite(points["flops_relative"]) & (points["flops_relative"] > 0)]
    front = shown[shown["front"]].sort_values("flops_relative")
    title = wrap(f"Final test accuracy against cost · {label}", WIDTH - 0.4, 1.15 * TITLE)
    longest = wrap(_caption(shown, front, len(front)), WIDTH - 0.4, NOTE)
    top, bottom = 0.66 + 0.24 * lines(title), 0.85 + 0.18 * lines(longest)
    height = top + AXES_HEIGHT + bottom
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0.78 / WIDTH, bottom / height, 1 - 0.98 / WIDTH, AXES_HEIGHT / height))
    _draw(axes, shown, front)
    _decorate(axes, shown)
    caption = wrap(_caption(shown, front, _annotate(axes, shown, front)), WIDTH - 0.4, NOTE)
    figure.text(0.2 / WIDTH, 1 - 0.16 / height, title, size=TITLE, weight="bold", va="top")
    _legend(figure, shown, 1 - (0.2 + 0.24 * lines(title)) / height)
    below = (bottom - 0.68) / height
    figure.text(0.2 / WIDTH, below, caption, size=NOTE, va="top", linespacing=1.25)
    return figure


def _draw(axes: Axes, points: pd.DataFrame, front: pd.DataFrame) -> None:
    area = _areas(points)
    for role, (colour, marker, _, share) in LOOK.items():
        at = (points["role"] == role).to_numpy()
        axes.scatter(
            points["flops_relative"][at],
            100 * points["mean"][at],
            s=share * area[at],
            c=colour,
            marker=marker,
            alpha=0.55,
            linewidths=0.6,
            edgecolors="black",
            zorder=3,
        )
    _intervals(axes, points)
    axes.plot(front["flops_relative"], 100 * front["mean"], color=FRONT, linewidth=1.6, zorder=2)


def _areas(points: pd.DataFrame) -> Floats:
    """Marker areas in points squared, proportional to seconds; equal where those are unknown."""
    if "seconds" not in points or not points["seconds"].max() > 0:
        return np.full(len(points), 50.0)
    share: Floats = (points["seconds"].fillna(0) / points["seconds"].max()).to_numpy(dtype=np.float64)
    return LARGEST * np.maximum(share, SMALLEST)


def _bars(points: pd.DataFrame) -> tuple[Floats, Floats]:
    """Lengths below and above each point of its interval over seeds, cut where accuracy ends."""
    mean = 100 * points["mean"].to_numpy(dtype=np.float64)
    half = 50 * (points["hi"] - points["lo"]).fillna(0).to_numpy(dtype=np.float64)
    return np.minimum(half, mean), np.minimum(half, 100 - mean)


def _intervals(axes: Axes, points: pd.DataFrame) -> None:
    axes.errorbar(
        points["flops_relative"],
        100 * points["mean"],
        yerr=np.stack(_bars(points)),
        fmt="none",
        ecolor="#666666",
        elinewidth=0.7,
        zorder=2,
    )


def _decorate(axes: Axes, points: pd.DataFrame) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel("FLOPs relative to dense training on all data", size=TEXT)
    axes.set_ylabel("test accuracy (%)", size=TEXT)
    axes.tick_params(labelsize=TICK)
    axes.grid(color="#e4e4e4", linewidth=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, 0) <= tick <= 100])
    axes.set_ylim(low - 0.04 * (high - low), high + 0.16 * (high - low))  # room for labels


def _legend(figure: Figure, points: pd.DataFrame, y: float) -> None:
    """Under the title, where no point lies."""
    present = [v for role, v in LOOK.items() if (points["role"] == role).any()]
    marks = [Line2D([], [], color=c, marker=m, linestyle="", markersize=8, label=said) for c, m, said, _ in present]
    marks.append(Line2D([], [], color=FRONT, linewidth=1.6, label="Pareto front"))
    look: dict[str, Any] = {"handlelength": 1.2, "handletextpad": 0.3, "columnspacing": 1.1, "borderaxespad": 0.2}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.1 / WIDTH, y), "ncols": len(marks)}
    figure.legend(handles=marks, fontsize=TICK, frameon=False, **look, **place)


def _annotate(axes: Axes, points: pd.DataFrame, front: pd.DataFrame) -> int:
    """(p, a) beside the front's points, where nothing else is; returns how many found no room.

    A label covers nothing; the line to its point crosses no label, and no point but those that touch its own.
    """
    at, markers = _pixels(axes, front), _markers(axes, points)
    taken = np.concatenate([markers, *_strokes(axes, points, at)])
    named, missed = np.zeros((0, 4)), 0
    for point, p, ratio in zip(at[::-1], front["prune_rate"][::-1], front["coreset_ratio"][::-1], strict=True):
        text = f"{100 * p:.4g} / {100 * ratio:.4g}"
        reach = 1.5 * (markers[:, 2:] - markers[:, :2])
        far = (np.abs(markers[:, :2] + reach / 3 - point) > reach).any(axis=1)
        centre = _free(axes, point, text, taken, np.concatenate([named, markers[far]]))
        if centre is None:
            missed += 1
            continue
        _label(axes, text, point, centre)
        box = _box(_half(axes, text), centre)
        named = np.concatenate([named, box])
        taken = np.concatenate([taken, box, _along(point, centre)])
    return missed


def _label(axes: Axes, text: str, point: Floats, centre: Floats) -> None:
    right, up = (centre - point) / _scale(axes)
    axes.annotate(
        text,
        axes.transData.inverted().transform(point).tolist(),
        xytext=(float(right), float(up)),
        textcoords="offset points",
        ha="center",
        va="center",
        size=TEXT,
        zorder=4,
        arrowprops={
            "arrowstyle": "-",
            "color": "#333333",
            "linewidth": 0.9,
            "linestyle": ":",
            "shrinkA": 0,
            "shrinkB": 3,
        },
    )


def _free(axes: Axes, point: Floats, text: str, taken: Floats, barred: Floats) -> Floats | None:
    """The nearest centre around ``point`` where ``text`` covers nothing; pixels, boxes are (x0, y0, x1, y1)."""
    half = _half(axes, text)
    frame = axes.bbox.extents
    for distance, towards in itertools.product(DISTANCES, DIRECTIONS):
        centre: Floats = point + np.array(towards) * (half + _scale(axes) * distance)
        box = _box(half, centre)
        inside = (box[:, :2] >= frame[:2]).all() and (box[:, 2:] <= frame[2:]).all()
        if inside and not _hits(box, taken) and not _hits(_along(point, centre), barred):
            return centre
    return None


def _scale(axes: Axes) -> float:
    """Pixels of a point (1/72 inch)."""
    figure = axes.get_figure()
    return DPI / 72 if figure is None else float(figure.dpi / 72)


def _half(axes: Axes, text: str) -> Floats:
    """From the centre of a label's box to its upper right corner."""
    size = TextPath((0, 0), text, size=TEXT).get_extents().size
    half: Floats = _scale(axes) * (np.array(size) / 2 + 3)
    return half


def _box(half: Floats, centre: Floats) -> Floats:
    return np.concatenate([centre - half, centre + half])[None]


def _pixels(axes: Axes, points: pd.DataFrame, up: Floats | float = 0.0) -> Floats:
    at = np.stack([points["flops_relative"].to_numpy(), 100 * points["mean"].to_numpy() + up], axis=1)
    return np.asarray(axes.transData.transform(at), dtype=np.float64)


def _markers(axes: Axes, points: pd.DataFrame) -> Floats:
    half = _scale(axes) * (np.sqrt(_areas(points)) / 2 + 1)[:, None]
    at = _pixels(axes, points)
    return np.hstack([at - half, at + half])


def _strokes(axes: Axes, points: pd.DataFrame, front: Floats) -> list[Floats]:
    """Boxes along the intervals and along the front's line."""
    below, above = _bars(points)
    bars = np.hstack([_pixels(axes, points, -below) - 2, _pixels(axes, points, above) + 2])
    return [bars, *(_along(a, b) for a, b in itertools.pairwise(front))]


def _along(start: Floats, end: Floats) -> Floats:
    """Small boxes that cover a straight line."""
    steps = 2 + int(np.hypot(end[0] - start[0], end[1] - start[1]) / 4)
    at = np.linspace(start, end, steps)
    return np.hstack([at - 2, at + 2])


def _hits(boxes: Floats, others: Floats) -> bool:
    apart = (boxes[:, None, :2] >= others[None, :, 2:]) | (boxes[:, None, 2:] <= others[None, :, :2])
    return bool((~apart.any(axis=2)).any())


def _caption(points: pd.DataFrame, front: pd.DataFrame, missed: int) -> str:
    n = points["n"]
    seeds = f"n = {n.min()}" if n.min() == n.max() else f"n = {n.min()} to {n.max()}"
    times = ""
    if "seconds" in points and points["seconds"].max() > 0:
        most = points["seconds"].max()
        times = (
            f"Area: seconds of a run (largest {most:.3g} s; {SMALLEST * most:.2g} s or less, or unknown: smallest). "
        )
    twice = front.duplicated(["prune_rate", "coreset_ratio"]).any()
    more = ["equal labels: variants of the methods"] if twice else []
    more += [f"{missed} found no room; the table has all"] if missed else []
    left = f" ({'; '.join(more)})" if more else ""
    mean = "one run, no interval" if n.max() == 1 else f"mean over seeds ± half-width of its 95 % t-interval, {seeds}"
    cut = "" if n.max() == 1 else "Intervals are cut at 0 and 100 %. "
    return (
        f"Each point is a treatment: {mean}. {times}Labels on the front: prune rate / coreset ratio in %{left}. "
        f"{cut}FLOPs: sparse training and selection, theoretical."
    )
