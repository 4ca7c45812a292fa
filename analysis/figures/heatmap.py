"""Small multiples of heat maps with one colour scale: accuracy, or a measure of synergy."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.figures.canvas import LARGE, NORMAL, SMALL, lines, new_figure, wrap
from analysis.panels import COLOURED, CONTROL, FAILED, MISSING, UNDEFINED, Curve, Heatmap, Panel

CELL_WIDTH, CELL_HEIGHT = 0.76, 0.52
LEFT, RIGHT, GAP_X, GAP_Y = 1.15, 1.3, 0.62, 0.5
WIDEST = 24.0
"""Inches, beyond which the columns go on in a band below."""
CHARACTER = 0.08
"""Inches that a character takes at the normal size."""
GREY, HATCH = "#ececec", "////"
OUTLINE, FRONTIER = "#111111", "#D55E00"
# Colour, diagonals (of a unit cell), marker in the legend, and words of a cell without a number.
Stroke = tuple[tuple[float, float], tuple[float, float]]
FALLING: Stroke = ((0.1, 0.9), (0.12, 0.88))
RISING: Stroke = ((0.1, 0.9), (0.88, 0.12))
MARKS: dict[str, tuple[str, tuple[Stroke, ...], Any, str]] = {
    FAILED: ("#111111", (FALLING, RISING), "x", "failed or stopped"),
    MISSING: ("#9a9a9a", (FALLING, RISING), "x", "missing"),
    UNDEFINED: ("#9a9a9a", (RISING,), (2, 2, -45), "undefined"),
}


@dataclass(frozen=True)
class _Layout:
    """Inches: of the figure, left of, between, above and below the panels, and of the largest panel.

    ``columns`` panels stand side by side; a band of them, ``band`` high, starts every ``pitch``.
    """

    width: float
    height: float
    left: float
    gap: float
    top: float
    bottom: float
    wide: float
    high: float
    columns: int
    band: float
    pitch: float


def draw(info: Heatmap) -> Figure:
    """The heat map; its size follows from the grid, so that text never has to shrink."""
    marks = _marks(info)
    wide = CELL_WIDTH * max(len(p.coreset_ratios) for p in info.panels)
    longer = 0.07 * max(_longest([name for p in info.panels for name in p.prune_rates]) - 6, 0)
    left, gap = LEFT + longer, GAP_X + longer
    columns = min(len(info.columns), max(1, int((WIDEST - left - RIGHT + gap) / (wide + gap))))
    width = max(left + RIGHT + columns * (wide + gap) - gap, 6.4)
    title = wrap(f"{info.title} · {info.experiment}", width - 0.5, 1.15 * LARGE)
    subtitle = wrap(info.subtitle, width - 0.5, NORMAL)
    caption = wrap(info.caption, width - 0.5)
    high = CELL_HEIGHT * max(len(p.prune_rates) for p in info.panels)
    named = max(lines(_named(p)) for p in info.panels)
    top = 0.44 + 0.2 * lines(title) + 0.18 * (lines(subtitle) + named)
    below = max(lines(_broken(name)) for p in info.panels for name in p.coreset_ratios) - 1
    bottom = (1.2 if marks else 0.85) + 0.16 * (lines(caption) + below)
    band = len(info.rows) * (high + GAP_Y) - GAP_Y
    pitch = band + 0.75 + 0.18 * named + 0.16 * below
    height = top + bottom + band + (-(-len(info.columns) // columns) - 1) * pitch
    figure = new_figure(width, height)
    at = _Layout(width, height, left, gap, top, bottom, wide, high, columns, band, pitch)
    _draw_panels(figure, info, at)
    figure.text(0.25 / width, 1 - 0.14 / height, title, size=LARGE, weight="bold", va="top")
    under = 1 - (0.2 + 0.2 * lines(title)) / height
    figure.text(0.25 / width, under, subtitle, size=NORMAL, va="top")
    figure.text(0.25 / width, 0.12 / height, caption, size=SMALL, va="bottom", linespacing=1.25)
    _legend(figure, marks, (bottom - 0.95 - 0.16 * below) / height)
    if info.coloured:
        _bar(figure, info, at)
    return figure


def _draw_panels(figure: Figure, info: Heatmap, at: _Layout) -> None:
    """Every panel in its place, from the top left; cells are equally large in all."""
    for panel in info.panels:
        i, (band, j) = info.rows.index(panel.row), divmod(info.columns.index(panel.column), at.columns)
        wide, high = CELL_WIDTH * len(panel.coreset_ratios), CELL_HEIGHT * len(panel.prune_rates)
        x = at.left + j * (at.wide + at.gap)
        y = at.height - at.top - band * at.pitch - i * (at.high + GAP_Y) - high
        axes = figure.add_axes((x / at.width, y / at.height, wide / at.width, high / at.height))
        _draw_panel(axes, panel, info)
        top_one = i == min(info.rows.index(p.row) for p in info.panels if p.column == panel.column)
        _label(axes, panel, info, (top_one, j == 0, i == len(info.rows) - 1))


def _bar(figure: Figure, info: Heatmap, at: _Layout) -> None:
    colours, norm = colour_scale(info)
    right = at.left + at.columns * (at.wide + at.gap) - at.gap + 0.45
    tall = min(at.band, 3.6)
    place = (right / at.width, (at.height - at.top - tall) / at.height, 0.16 / at.width, tall / at.height)
    bar = figure.add_axes(place)
    figure.colorbar(ScalarMappable(norm, colours), cax=bar)
    bar.tick_params(labelsize=SMALL)
    bar.set_title("%" if info.unit == "%" else "points", size=SMALL, pad=6)


def colour_scale(info: Heatmap) -> tuple[Colormap, Normalize]:
    """The colours of print and page: below 0 red, above it blue; an accuracy from dark to bright."""
    return colormaps["RdBu" if info.diverging else "cividis"], Normalize(*info.limits)


def _draw_panel(axes: Axes, panel: Panel, info: Heatmap) -> None:
    colours, norm = colour_scale(info)
    rows, columns = panel.value.shape
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    for i, j in np.ndindex(rows, columns):
        face = GREY if panel.state[i, j] != COLOURED else colours(norm(panel.value[i, j]))
        open_question = panel.state[i, j] == COLOURED and not panel.significant[i, j]
        cell = Rectangle((j, i), 1, 1, facecolor=face, edgecolor="white", linewidth=1.2)
        axes.add_patch(cell)
        if open_question:
            axes.add_patch(_hatched(j, i, _ink(face)))
        if panel.state[i, j] in MARKS:
            colour, strokes, _, _ = MARKS[str(panel.state[i, j])]
            for (x0, x1), (y0, y1) in strokes:
                axes.add_line(Line2D((j + x0, j + x1), (i + y0, i + y1), color=colour))
        else:
            _write(axes, info, panel, (i, j), face)
        if panel.fallen[i, j]:
            _mark_collapse(axes, panel, i, j, face)
    if panel.frontier is not None:
        _draw_frontier(axes, panel.frontier)
    if info.controls:
        axes.axhline(1, color="black", linewidth=1)
        axes.axvline(1, color="black", linewidth=1)


def _mark_collapse(axes: Axes, panel: Panel, i: int, j: int, face: object) -> None:
    """``k/n`` in the corner, and an outline where that is more than half."""
    said = f"{panel.fallen[i, j]}/{panel.judged[i, j]}"
    # Above the frontier, which may cross the cell, and clear of the outline.
    written = axes.text(j + 0.92, i + 0.09, said, ha="right", va="top", size=SMALL, zorder=5)
    written.set(color=_ink(face), path_effects=[patheffects.withStroke(linewidth=2.0, foreground=face)])
    if panel.collapsed[i, j]:
        frame = Rectangle((j + 0.04, i + 0.05), 0.92, 0.9, facecolor="none", edgecolor=OUTLINE, linewidth=1.8)
        axes.add_patch(frame)


def _draw_frontier(axes: Axes, curve: Curve) -> None:
    """Stairs, an upright stretch in every row, and the interval at the row's foot: numbers stay readable."""
    halo = [patheffects.withStroke(linewidth=3.4, foreground="white")]
    x, y = np.repeat(curve.x, 2), (curve.y[:, None] + [-0.5, 0.5]).ravel()
    axes.plot(x, y, color=FRONTIER, linewidth=2.0, path_effects=halo, zorder=4, clip_on=False)
    known = np.isfinite(curve.lo) & np.isfinite(curve.hi)
    axes.hlines(curve.y[known] + 0.42, curve.lo[known], curve.hi[known], color=FRONTIER, linewidth=1.2, zorder=4)


def _hatched(x: int, y: int, ink: str) -> Rectangle:
    shade = "#00000045" if ink == "black" else "#ffffff70"
    with rc_context({"hatch.linewidth": 0.6}):
        return Rectangle((x, y), 1, 1, facecolor="none", edgecolor=shade, linewidth=0, hatch=HATCH)


def _write(axes: Axes, info: Heatmap, panel: Panel, at: tuple[int, int], face: object) -> None:
    (i, j), text = at, cell_text(info, panel, *at)
    ink = "#444444" if panel.state[i, j] == CONTROL else _ink(face)
    middle = i + (0.6 if panel.fallen[i, j] else 0.5)  # below what stands in the corner
    written = axes.text(j + 0.5, middle, text, ha="center", va="center", size=SMALL, linespacing=1.1, zorder=5)
    written.set(color=ink, path_effects=[patheffects.withStroke(linewidth=2.6, foreground=face)])


def cell_text(info: Heatmap, panel: Panel, i: int, j: int) -> str:
    """``+1.2 / ±0.4 / n=2``: the half-width only where there is one, n only where it is less than the map's most."""
    if panel.state[i, j] == CONTROL:
        return f"{panel.value[i, j]:.1f}"
    said = [number(panel.value[i, j], info.diverging)]
    half = panel.half[i, j]
    said += [f"±{half:.1f}" if half < 99.5 else f"±{half:.0f}"] if np.isfinite(half) else []
    in_corner = panel.fallen[i, j] > 0 and panel.judged[i, j] == panel.n[i, j]
    said += [f"n={panel.n[i, j]}"] if panel.n[i, j] < info.seeds and not in_corner else []
    return "\n".join(said)


def number(value: float, signed: bool) -> str:
    """``+1.2``; 0 has no sign, and minus is a minus."""
    shown = round(float(value), 1) + 0.0
    return (f"{shown:+.1f}" if signed and shown else f"{shown:.1f}").replace("-", "−")


def _ink(face: object) -> str:
    red, green, blue = face[:3] if isinstance(face, tuple) else (0.93, 0.93, 0.93)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.52 else "white"


def _label(axes: Axes, panel: Panel, info: Heatmap, place: tuple[bool, bool, bool]) -> None:
    """Ticks, and by ``place`` (top of its column, in the first column, in the last row) the names of panel and axes."""
    named, first, last = place
    rows, columns = panel.value.shape
    size = NORMAL if _longest((*panel.coreset_ratios, *panel.prune_rates)) < 9 else SMALL
    axes.set_xticks(np.arange(columns) + 0.5, [_broken(name) for name in panel.coreset_ratios], size=size)
    axes.set_yticks(np.arange(rows) + 0.5, [_broken(name) for name in panel.prune_rates], size=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if named:
        axes.set_title(_named(panel), size=NORMAL, pad=6)
    if first:
        said = textwrap.fill(f"preservation: {panel.row}", _fitting(CELL_HEIGHT * rows + GAP_Y))
        axes.set_ylabel(f"{said}\n{info.down}", size=NORMAL, linespacing=1.4)
    if last and (first or CHARACTER * len(info.across) <= CELL_WIDTH * columns + GAP_X):  # none runs into the next one
        axes.set_xlabel(info.across, size=NORMAL)


def _broken(name: str) -> str:
    """A row's or column's name in lines as wide as a cell; numbers stay whole."""
    return "\n".join(textwrap.wrap(name, 12, break_long_words=False, break_on_hyphens=False))


def _longest(names: Iterable[str]) -> int:
    """Characters of the longest line."""
    return max(len(line) for name in names for line in _broken(name).split("\n"))


def _named(panel: Panel) -> str:
    fitting = _fitting(len(panel.coreset_ratios) * CELL_WIDTH + GAP_X)
    return textwrap.fill(panel.column, fitting, break_long_words=False, break_on_hyphens=False)


def _fitting(inches: float) -> int:
    """How many characters of the normal size stand there."""
    return int(inches / CHARACTER)


def _marks(info: Heatmap) -> list[Patch | Line2D]:
    """What the legend explains: only the marks that occur."""
    states = {s for p in info.panels for s in np.unique(p.state)}
    marks: list[Patch | Line2D] = []
    if any(((p.state == COLOURED) & ~p.significant).any() for p in info.panels):
        patch = Patch(facecolor="white", edgecolor="#777777", hatch=HATCH, label=info.hatched)
        marks.append(patch)
    if CONTROL in states:
        marks.append(Patch(facecolor=GREY, edgecolor="#777777", label="single treatment, %"))
    if any(p.collapsed.any() for p in info.panels):
        marks.append(Patch(facecolor="white", edgecolor=OUTLINE, linewidth=1.8, label="collapsed"))
    if any(p.frontier is not None for p in info.panels):
        marks.append(Line2D([], [], color=FRONTIER, linewidth=2.0, label="frontier"))
    look: dict[str, Any] = {"markersize": 9, "markeredgewidth": 1.6, "linestyle": ""}
    for state, (colour, _, marker, said) in MARKS.items():
        if state in states:
            marks.append(Line2D([], [], color=colour, marker=marker, label=said, **look))
    return marks


def _legend(figure: Figure, marks: list[Patch | Line2D], y: float) -> None:
    """Right above the caption."""
    if not marks:
        return
    left = 0.15 / figure.get_figwidth()
    columns = len(marks) if figure.get_figwidth() > 8 else 3
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (left, y), "ncols": columns, "borderaxespad": 0.2}
    figure.legend(handles=marks, frameon=False, fontsize=SMALL, handlelength=1.6, **place)
