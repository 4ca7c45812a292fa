"""Small charts of courses over epochs, side by side: lines with bands, marks, switches, a shaded window."""

from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.charts import Chart, Charts, Line, Marks
from analysis.figures.canvas import lines, new_figure, wrap

# Okabe and Ito's colours; markers and dashes say it again.
GREY = "#7a7a7a"
Dash = Literal["-", "--", ""]
LOOK: dict[str, tuple[str, str, Dash]] = {
    "dense": ("#000000", "D", "-"),
    "prune-only": ("#E69F00", "s", "-"),
    "coreset-only": ("#56B4E9", "^", "-"),
    "joint": ("#0072B2", "o", "-"),
    "the run": ("#D55E00", "o", "-"),
    "expected course": (GREY, "", "--"),
    "trough": ("#000000", "v", ""),
    "other classes": (GREY, "", "-"),
    "worst class": ("#D55E00", "o", "-"),
    "second class": ("#0072B2", "s", "-"),
    "third class": ("#CC79A7", "^", "-"),
    "without preservation": ("#D55E00", "o", "-"),
    "preserved from the switch": ("#0072B2", "s", "-"),
    "no event follows": (GREY, "", "-"),
    "a dip that recovers": ("#56B4E9", "o", ""),
    "a lasting loss": ("#D55E00", "X", ""),
}
EMPHASISED = ("the run", "worst class")
TITLE, TEXT, TICK, NOTE = 14.0, 12.0, 11.0, 10.0
WIDTH, LEFT, RIGHT, GAP_X, GAP_Y, HIGH = 10.2, 0.82, 0.2, 0.62, 0.62, 2.2
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
        for axes in row:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _draw(axes: Axes, chart: Chart) -> None:
    for epoch in chart.switches:
        axes.axvline(epoch, color="#d5d5d5", linewidth=0.8, zorder=0)
    if chart.window is not None:
        axes.axvspan(chart.window[0] - 0.5, chart.window[1] + 0.5, color="#eef1f4", linewidth=0, zorder=-1)
    for line in chart.lines:
        _line(axes, line)
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


def _line(axes: Axes, line: Line) -> None:
    emphasised = line.name in EMPHASISED
    colour, marker, dash = LOOK[line.name]
    axes.fill_between(line.epoch, line.lo, line.hi, color=colour, alpha=0.2, linewidth=0, zorder=1)
    look: dict[str, Any] = {"markersize": 3.2, "linewidth": 2.0 if emphasised else 1.3, "markevery": 3}
    if len(line.epoch) < 12:
        look["markevery"] = 1
    axes.plot(line.epoch, line.value, color=colour, marker=marker, linestyle=dash, zorder=3 + emphasised, **look)


def _points(axes: Axes, marks: Marks) -> None:
    colour, marker, _ = LOOK[marks.name]
    look: dict[str, Any] = {"s": 42, "linewidths": 0.6, "edgecolors": "white", "zorder": 6}
    axes.scatter(marks.epoch, marks.value, c=colour, marker=marker, **look)


def _legend(figure: Figure, info: Charts, y: float) -> None:
    handles = []
    for name in info.names:
        colour, marker, dash = LOOK[name]
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle=dash, markersize=6, label=name))
    look: dict[str, Any] = {"handlelength": 1.8, "handletextpad": 0.4, "columnspacing": 1.1, "borderaxespad": 0.2}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.1 / WIDTH, y), "ncols": len(handles)}
    figure.legend(handles=handles, fontsize=TICK, frameon=False, **look, **place)
