"""Small charts as one plotly figure, to hover over: one is shown, a menu chooses which."""

from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from analysis.charts import Chart, Charts, Line, Marks
from analysis.figures.charts import LOOK, Look, stacked

Json = dict[str, Any]
SYMBOLS = {"D": "diamond", "s": "square", "^": "triangle-up", "v": "triangle-down", "o": "circle", "X": "x", "": ""}
PIXELS = 1.4
"""Of the page per point of print."""
SWITCH, WINDOW = "#d5d5d5", "#eef1f4"


def figure(info: Charts) -> Json:
    """Traces and layout: the first chart is visible, the menu shows the others in their order."""
    traces, owner = [], []
    for index, chart in enumerate(info.charts):
        made = [*(t for line in stacked(chart.lines) for t in _line(line)), *(_points(marks) for marks in chart.marks)]
        traces += [{**trace, "visible": index == 0} for trace in made]
        owner += [index] * len(made)
    buttons = [
        {
            "label": _label(chart),
            "method": "update",
            "args": [
                {"visible": [o == index for o in owner]},
                {"shapes": _around(chart), "yaxis.title.text": chart.unit},
            ],
        }
        for index, chart in enumerate(info.charts)
    ]
    menu = {"buttons": buttons, "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}
    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "height": 460,
        "hovermode": "x unified",
        "margin": {"t": 70, "l": 70, "r": 30, "b": 60},
        "plot_bgcolor": "#ffffff",
        "updatemenus": [menu],
        "xaxis": {"title": {"text": "epoch"}, "showgrid": False},
        "yaxis": {"title": {"text": info.charts[0].unit}, "gridcolor": "#eeeeee"},
        "shapes": _around(info.charts[0]),
    }
    return {"data": traces, "layout": layout}


def _label(chart: Chart) -> str:
    """Its title in one line, and where the shaded stretch begins: a run may have several."""
    begins = "" if chart.window is None else f", epoch {chart.window[0]}"
    return chart.title.replace("\n", ": ") + begins


def _around(chart: Chart) -> list[Json]:
    """The shaded stretch and the switches."""
    whole = {"yref": "y domain", "y0": 0, "y1": 1, "layer": "below"}
    shapes: list[Json] = []
    if chart.window is not None:
        first, last = chart.window
        shaded = {"fillcolor": WINDOW, "line": {"width": 0}}
        shapes.append({"type": "rect", "x0": first - 0.5, "x1": last + 0.5, **shaded, **whole})
    thin = {"color": SWITCH, "width": 1}
    return [*shapes, *({"type": "line", "x0": at, "x1": at, "line": thin, **whole} for at in chart.switches)]


def _line(line: Line) -> list[Json]:
    """A course, above its band where it has one."""
    look = LOOK[line.name]
    shown = {"color": look.colour, "width": PIXELS * look.width, "dash": _dash(look)}
    course: Json = {
        "type": "scatter",
        "mode": "lines+markers" if look.marker else "lines",
        "name": line.name,
        "x": line.epoch.tolist(),
        "y": _numbers(line.value),
        "line": shown,
        "hovertemplate": "%{y:.1f}",
    }
    if look.marker:
        course["marker"] = {"symbol": SYMBOLS[look.marker], "size": 5 + look.width, "color": look.colour}
    if not np.isfinite(line.lo).any():
        return [course]
    red, green, blue = (round(255 * part) for part in to_rgb(look.colour))
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*line.epoch.tolist(), *line.epoch[::-1].tolist()],
        "y": [*_numbers(line.lo), *_numbers(line.hi[::-1])],
        "fill": "toself",
        "fillcolor": f"rgba({red},{green},{blue},0.2)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [band, course]


def _dash(look: Look) -> str:
    """Plotly's: solid, or lengths of ink and gap."""
    return "solid" if look.dash is None else ",".join(f"{PIXELS * look.width * part:g}px" for part in look.dash)


def _points(marks: Marks) -> Json:
    of = LOOK[marks.name]
    look = {"symbol": SYMBOLS[of.marker], "size": 10, "color": of.colour}
    shown = {"x": marks.epoch.tolist(), "y": _numbers(marks.value), "hovertemplate": "%{y:.1f}"}
    return {"type": "scatter", "mode": "markers", "name": marks.name, "marker": look, **shown}


def _numbers(values: Any) -> list[float | None]:
    """To two decimals; ``null`` of what is no number."""
    return [round(float(v), 2) if np.isfinite(v) else None for v in values]
