"""Figures through matplotlib's object interface: no pyplot, no global state, equal bytes."""

import io
import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

SMALL, NORMAL, LARGE = 9.0, 10.0, 12.0
DPI = 200
WEBP = 16383
"""Pixels that a side of a WebP image has at most."""


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def wrap(text: str, width: float, size: float = SMALL) -> str:
    """``text`` broken into lines that fit ``width`` inches at font size ``size``, a number of seeds kept whole."""
    return "\n".join(textwrap.wrap(text.replace("n = ", "n\u00a0=\u00a0"), max(24, int(width * 72 / (0.52 * size)))))


def lines(text: str) -> int:
    """Into how many lines ``text`` is broken."""
    return text.count("\n") + 1


def encode(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg`` bytes without dates, so that equal input gives equal bytes."""
    if kind == "png":
        return png(rendered(figure))
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "sweep", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def rendered(figure: Figure) -> Image.Image:
    """The figure's pixels."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.array(canvas.buffer_rgba()))


def png(image: Image.Image) -> bytes:
    """Pixels in print quality."""
    stream = io.BytesIO()
    image.save(stream, format="png", dpi=(DPI, DPI))
    return stream.getvalue()


def lossless(image: Image.Image) -> bytes:
    """The same pixels as WebP, three fifths of the size: a palette would cut the colour scale into bands.

    What is too large for the format is scaled down. Searching harder takes twice as long for a sixth less.
    """
    stream, image = io.BytesIO(), image.convert("RGB")
    image.thumbnail((WEBP, WEBP))
    image.save(stream, format="webp", lossless=True, quality=0, method=3)
    return stream.getvalue()
