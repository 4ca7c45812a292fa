"""What a figure of courses over epochs shows, before anything is drawn: small charts with lines, bands and marks."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.inference import Floats

Epochs = NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One course. Its band reaches from ``lo`` to ``hi``; NaN where there is none."""

    name: str
    epoch: Epochs
    value: Floats
    lo: Floats
    hi: Floats


@dataclass(frozen=True)
class Marks:
    """Single points that are looked for."""

    name: str
    epoch: Epochs
    value: Floats


@dataclass(frozen=True)
class Chart:
    """One pair of axes. ``window``: first and last epoch of a stretch that is shaded; ``switches`` are epochs."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    marks: tuple[Marks, ...] = ()
    switches: tuple[int, ...] = ()
    window: tuple[int, int] | None = None
    log: bool = False


@dataclass(frozen=True)
class Charts:
    """A figure: charts row by row, ``columns`` of them in each; ``shared``: a row has one scale."""

    name: str
    title: str
    caption: str
    columns: int
    charts: tuple[Chart, ...]
    shared: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What its lines and marks are called, each once."""
        lines = (line.name for chart in self.charts for line in chart.lines)
        marks = (marks.name for chart in self.charts for marks in chart.marks)
        return tuple(dict.fromkeys((*lines, *marks)))


def plain(name: str, epoch: Epochs, value: Floats) -> Line:
    """A line without a band, where it is a number."""
    known = np.isfinite(value)
    nothing = np.full(int(known.sum()), np.nan)
    return Line(name, epoch[known], value[known], nothing, nothing)


def median_band(name: str, values_RT: Floats) -> Line | None:
    """Median and quartiles over runs at every epoch (column t is epoch t + 1) with a number; ``None`` without one."""
    known = np.isfinite(values_RT).any(axis=0)
    if not known.any():
        return None
    lo, middle, hi = np.nanquantile(values_RT[:, known], (0.25, 0.5, 0.75), axis=0)
    return Line(name, np.flatnonzero(known).astype(np.int64) + 1, middle, lo, hi)


def by_numbers(text: str) -> list[str | float]:
    """A key by which ``every 5`` comes before ``every 100``."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [float(part) if odd % 2 else part for odd, part in enumerate(parts)]
