"""The heat maps as one plotly figure, to hover over and to switch between quantities."""

import gzip
import json
import textwrap
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from analysis.figures import heatmap
from analysis.panels import COLOURED, Heatmap, Panel

Json = dict[str, Any]
STOPS = 65
CHARACTERS = 160  # of headings that fit side by side
CELLS = 24
"""Side by side at most; further columns go on in a band below, as in print."""
_GAP_X, _GAP_Y = 0.09, 0.16


def library() -> bytes:
    """plotly.js, gzipped from 5 MB to 1.5 MB: the page unpacks it."""
    from plotly.offline import get_plotlyjs

    return gzip.compress(get_plotlyjs().encode(), mtime=0)


def to_json(figure: Json) -> str:
    """A figure as JSON for ``Plotly.newPlot``, safe within a script element; keys sorted, no addresses."""
    return json.dumps(figure, sort_keys=True, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def figure(heatmaps: tuple[Heatmap, ...]) -> Json:
    """Traces and layout; the first quantity is visible, a menu shows the others."""
    first = heatmaps[0]
    traces, owner = [], []
    for index, info in enumerate(heatmaps):
        traces += [{**_trace(info, panel), "visible": index == 0} for panel in info.panels]
        owner += [index] * len(info.panels)
    buttons = [
        {
            "label": info.title,
            "method": "update",
            "args": [{"visible": [o == index for o in owner]}, {"coloraxis": _colours(info)}],
        }
        for index, info in enumerate(heatmaps)
    ]
    tall = 15 * max(_heading(first, panel)["text"].count("<br>") for panel in first.panels)
    layout: Json = {
        "coloraxis": _colours(first),
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "height": 170 + tall + 290 * _bands(first) * len(first.rows),
        "margin": {"t": 110 + tall, "l": 70, "r": 30, "b": 60},
        "plot_bgcolor": "#ececec",
        "annotations": [_heading(first, panel) for panel in first.panels],
        "updatemenus": [
            {
                "buttons": buttons,
                "x": 0,
                "y": 1.02,
                "yanchor": "bottom",
                "xanchor": "left",
                "pad": {"b": 30 + tall},
            }
        ],
        **_axes(first),
    }
    return {"data": traces, "layout": layout}


def _abreast(info: Heatmap) -> int:
    """Panels side by side."""
    return min(len(info.columns), max(1, CELLS // max(len(panel.coreset_ratios) for panel in info.panels)))


def _bands(info: Heatmap) -> int:
    return -(-len(info.columns) // _abreast(info))


def _place(info: Heatmap, panel: Panel) -> tuple[int, int]:
    """Row and column of a panel on the page."""
    band, across = divmod(info.columns.index(panel.column), _abreast(info))
    return band * len(info.rows) + info.rows.index(panel.row), across


def _position(info: Heatmap, panel: Panel) -> int:
    down, across = _place(info, panel)
    return down * _abreast(info) + across + 1


def _mark(position: int) -> str:
    """The first axis of plotly has no number."""
    return "" if position == 1 else str(position)


def _domains(count: int, gap: float) -> list[list[float]]:
    gap = min(gap, 0.5 / count)
    size = (1 - gap * (count - 1)) / count
    return [[k * (size + gap), k * (size + gap) + size] for k in range(count)]


def _axes(info: Heatmap) -> Json:
    wide, high = _domains(_abreast(info), _GAP_X), _domains(_bands(info) * len(info.rows), _GAP_Y)[::-1]
    out: Json = {}
    for panel in info.panels:
        k = _position(info, panel)
        i, j = _place(info, panel)
        lowest = info.rows.index(panel.row) == len(info.rows) - 1
        shared = {"type": "category", "showgrid": False}
        out[f"xaxis{_mark(k)}"] = {
            **shared,
            "domain": wide[j],
            "anchor": f"y{_mark(k)}",
            "title": {"text": "coreset ratio (%)" if lowest else "", "standoff": 4},
        }
        out[f"yaxis{_mark(k)}"] = {
            **shared,
            "domain": high[i],
            "anchor": f"x{_mark(k)}",
            "autorange": "reversed",
            "title": {"text": "" if j else "prune rate (%)", "standoff": 4},
        }
    return out


def _heading(info: Heatmap, panel: Panel) -> Json:
    k = _position(info, panel)
    words = textwrap.wrap(f"{panel.column}, preservation {panel.row}", max(16, CHARACTERS // _abreast(info)))
    return {
        "text": "<br>".join(words),
        "showarrow": False,
        "xref": f"x{_mark(k)} domain",
        "yref": f"y{_mark(k)} domain",
        "x": 0.5,
        "y": 1.01,
        "yanchor": "bottom",
        "font": {"size": 12},
    }


def _colours(info: Heatmap) -> Json:
    """The printed figure's scale, stop by stop: plotly has another one under the same name."""
    low, high = info.limits
    colours, _ = heatmap.colour_scale(info)
    stops = np.linspace(0, 1, STOPS)
    title = {"text": "%" if info.unit == "%" else "points"}
    return {
        "colorscale": [[round(float(x), 6), to_hex(colours(x))] for x in stops],
        "cmin": low,
        "cmax": high,
        "colorbar": {"title": title},
        "showscale": info.coloured,
    }


def _trace(info: Heatmap, panel: Panel) -> Json:
    k = _position(info, panel)
    coloured = np.where(panel.state == COLOURED, panel.value, np.nan)
    return {
        "type": "heatmap",
        "coloraxis": "coloraxis",
        "xaxis": f"x{_mark(k)}",
        "yaxis": f"y{_mark(k)}",
        "x": list(panel.coreset_ratios),
        "y": list(panel.prune_rates),
        "xgap": 2,
        "ygap": 2,
        "z": [[_number(v) for v in row] for row in coloured],
        "text": [[_short(info, panel, i, j) for j in range(coloured.shape[1])] for i in range(coloured.shape[0])],
        "texttemplate": "%{text}",
        "hovertext": [[_hover(info, panel, i, j) for j in range(coloured.shape[1])] for i in range(coloured.shape[0])],
        "hoverinfo": "text",
        "hoverongaps": True,
    }


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _short(info: Heatmap, panel: Panel, i: int, j: int) -> str:
    """The value as in print; bold where print does not hatch."""
    if panel.state[i, j] != COLOURED:
        return ""
    text = heatmap.number(panel.value[i, j], info.diverging)
    return f"<b>{text}</b>" if info.diverging and panel.significant[i, j] else text


def _hover(info: Heatmap, panel: Panel, i: int, j: int) -> str:
    where = f"prune rate {panel.prune_rates[i]} %, coreset ratio {panel.coreset_ratios[j]} %"
    if not np.isfinite(panel.value[i, j]):
        return f"{where}<br>{panel.state[i, j]}"
    half, q = panel.half[i, j], panel.q[i, j]
    spread = f" ± {half:.2f}" if np.isfinite(half) else " (no interval)"
    if panel.state[i, j] != COLOURED:
        return f"{where}<br>accuracy {panel.value[i, j]:.2f} % (single treatment)"
    tested = f"<br>q = {q:.3g}" if np.isfinite(q) else ""
    return f"{where}<br>{info.title}: {panel.value[i, j]:.2f}{spread}, n = {panel.n[i, j]}{tested}"
