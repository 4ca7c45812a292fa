"""Small charts of courses over epochs, side by side: lines with bands, marks, switches, a shaded window."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.charts import Chart, Charts, Line, Marks
from analysis.figures.canvas import lines, new_figure, wrap

GREY = "#7a7a7a"


@dataclass(frozen=True)
class Look:
    """Of a line (``width`` in points, ``dash`` of ink and gap in widths) or of marks (width 0).

    Lines run on one course where cells train alike: wide ones lie beneath narrow ones, and the narrowest have gaps, so
    that each shows whatever lies on it. Colours are Okabe and Ito's; widths, dashes and markers say it again.
    """

    colour: str
    marker: str
    width: float = 0.0
    dash: tuple[float, float] | None = None


LOOK: dict[str, Look] = {
    "dense": Look("#000000", "D", 2.8),
    "prune-only": Look("#E69F00", "s", 1.8),
    "coreset-only": Look("#56B4E9", "^", 1.2, (5, 2.5)),
    "joint": Look("#0072B2", "o", 3.6),
    "the run": Look("#D55E00", "o", 3.6),
    "expected course": Look(GREY, "", 1.5, (3, 2)),
    "trough": Look("#000000", "v"),
    "other classes": Look(GREY, "", 2.8),
    "worst class": Look("#D55E00", "o", 3.6),
    "second class": Look("#0072B2", "s", 1.8),
    "third class": Look("#CC79A7", "^", 1.2, (5, 2.5)),
    "without preservation": Look("#D55E00", "o", 3.6),
    "preserved from the switch": Look("#0072B2", "s", 1.8),
    "no event follows": Look(GREY, "", 1.8),
    "a dip that recovers": Look("#56B4E9", "o"),
    "a lasting loss": Look("#D55E00", "X"),
    "whether it lasts is not known": Look("#CC79A7", "P"),
}
TITLE, TEXT, TICK, NOTE = 14.0, 12.0, 11.0, 10.0
WIDTH, LEFT, RIGHT, GAP_X, GAP_Y, HIGH = 10.2, 0.95, 0.2, 0.62, 0.62, 2.2
EVERY = 3  # epochs from one marker of a line to its next
LEAST = 10.0  # per cent that an accuracy's axis spans at least, so that noise does not fill it


def draw(info: Charts) -> Figure:
    """The figure; its height follows from the number of rows and the words."""
    columns = min(info.columns, len(info.charts))
    rows = -(-len(info.charts) // columns)
    wide = (WIDTH - LEFT - RIGHT + GAP_X) / columns - GAP_X
    titles = ["\n".join(wrap(part, wide, NOTE) for part in chart.title.split("\n")) for chart in info.charts]
    title, caption = wrap(info.title, WIDTH - 0.4, 1.15 * TITLE), wrap(info.caption, WIDTH - 0.4, NOTE)
    named = 0.17 * max(map(lines, titles))
    top, bottom = 0.62 + 0.24 * lines(title), 0.75 + 0.18 * lines(caption)
    height = top + rows * (HIGH + named + GAP_Y) - GAP_Y + bottom
    figure, drawn = new_figure(WIDTH, height), list[Axes]()
    for k, (chart, text) in enumerate(zip(info.charts, titles, strict=True)):
        i, j = divmod(k, columns)
        x, y = LEFT + j * (wide + GAP_X), height - top - named - i * (HIGH + named + GAP_Y) - HIGH
        axes = figure.add_axes((x / WIDTH, y / height, wide / WIDTH, HIGH / height))
        _draw(axes, chart)
        drawn.append(axes)
        axes.set_title(text, size=NOTE, loc="left", linespacing=1.15)
        last = k + columns >= len(info.charts)
        axes.set_xlabel("epoch" if last else "", size=TEXT)
        axes.set_ylabel(chart.unit if j == 0 else "", size=TEXT)
        axes.yaxis.set_label_coords((0.3 - x) / wide, 0.5)  # whatever the width of the numbers on the axis
    if info.shared:
        _share(drawn, columns)
    figure.text(0.2 / WIDTH, 1 - 0.16 / height, title, size=TITLE, weight="bold", va="top")
    figure.text(0.2 / WIDTH, 0.12 / height, caption, size=NOTE, va="bottom", linespacing=1.25)
    _legend(figure, info, 1 - (0.2 + 0.24 * lines(title)) / height)
    return figure


def _share(drawn: list[Axes], columns: int) -> None:
    """One scale for all charts of a row."""
    for first in range(0, len(drawn), columns):
        row = drawn[first : first + columns]
        limits = [axes.get_ylim() for axes in row]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        # What never varies has next to no margin of its own, and would lie on the axis.
        margin = 0.0 if row[0].get_yscale() == "log" else 0.03 * (high - low)
        for axes in row:
            axes.set_ylim(low - margin, high + margin)


def _draw(axes: Axes, chart: Chart) -> None:
    for epoch in chart.switches:
        axes.axvline(epoch, color="#d5d5d5", linewidth=0.8, zorder=0)
    if chart.window is not None:
        axes.axvspan(chart.window[0] - 0.5, chart.window[1] + 0.5, color="#eef1f4", linewidth=0, zorder=-1)
    for place, line in enumerate(stacked(chart.lines)):
        _line(axes, line, place)
    for marks in chart.marks:
        _points(axes, marks)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=TICK)
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    if chart.unit.endswith("(%)"):
        low, high = axes.get_ylim()
        axes.set_ylim(max(min(low, high - LEAST), -2), min(high, 102))


def stacked(lines: Iterable[Line]) -> list[Line]:
    """From the widest, which is drawn first, to the narrowest, which lies above all."""
    return sorted(lines, key=lambda line: -LOOK[line.name].width)


def _line(axes: Axes, line: Line, place: int) -> None:
    look = LOOK[line.name]
    axes.fill_between(line.epoch, line.lo, line.hi, color=look.colour, alpha=0.2, linewidth=0, zorder=1)
    every = 1 if len(line.epoch) < 12 else (place % EVERY, EVERY)  # markers of two lines in one place hide each other
    style: dict[str, Any] = {"linestyle": _dash(look), "linewidth": look.width, "marker": look.marker}
    style |= {"markersize": max(3.2, look.width + 1.2), "markevery": every, "color": look.colour}
    axes.plot(line.epoch, line.value, zorder=3 + 0.1 * place, **style)


def _dash(look: Look) -> str | tuple[int, tuple[float, float]]:
    if look.width == 0:
        return ""
    return "-" if look.dash is None else (0, look.dash)


def _points(axes: Axes, marks: Marks) -> None:
    look = LOOK[marks.name]
    style: dict[str, Any] = {"s": 42, "linewidths": 0.6, "edgecolors": "white", "zorder": 6}
    axes.scatter(marks.epoch, marks.value, c=look.colour, marker=look.marker, **style)


def _legend(figure: Figure, info: Charts, y: float) -> None:
    handles = []
    for name in info.names:
        of = LOOK[name]
        style: dict[str, Any] = {"linestyle": _dash(of), "linewidth": of.width, "marker": of.marker, "color": of.colour}
        handles.append(Line2D([], [], markersize=6, label=name, **style))
    look: dict[str, Any] = {"handlelength": 2.2, "handletextpad": 0.4, "columnspacing": 1.1, "borderaxespad": 0.2}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.1 / WIDTH, y), "ncols": len(handles)}
    figure.legend(handles=handles, fontsize=TICK, frameon=False, **look, **place)
