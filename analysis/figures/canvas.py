"""Figures through matplotlib's object interface: no pyplot, no global state, equal bytes."""

import io
import textwrap

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SMALL, NORMAL, LARGE = 9.0, 10.0, 12.0
DPI = 200
_STYLE = {"svg.hashsalt": "sweep", "svg.fonttype": "path"}


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def wrap(text: str, width: float, size: float = SMALL) -> str:
    """``text`` broken into lines that fit ``width`` inches at font size ``size``."""
    return "\n".join(textwrap.wrap(text, max(24, int(width * 72 / (0.56 * size)))))


def encode(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg`` bytes without dates, so that equal input gives equal bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
