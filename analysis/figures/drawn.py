"""Every figure of a report, encoded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.charts import Charts
from analysis.confirmations import Confirmation
from analysis.figures import arms, charts, frontier, heatmap
from analysis.figures.canvas import encode, lossless
from analysis.panels import Heatmap


@dataclass(frozen=True)
class Drawn:
    """One figure under its file name: print quality, vector, and WebP for the page; width in inches."""

    name: str
    width: float
    png: bytes
    svg: bytes
    page: bytes


def drawn(
    maps: Iterable[Heatmap],
    fronts: Iterable[tuple[str, str, pd.DataFrame]],
    confirmed: Iterable[Confirmation] = (),
    courses: Iterable[Charts] = (),
) -> Iterator[Drawn]:
    """Heat maps, fronts (name, label, points), the confirmations' arms, courses over epochs, one at a time."""
    for one_map in maps:
        yield _encoded(one_map.name, heatmap.draw(one_map))
    for name, label, points in fronts:
        yield _encoded(name, frontier.draw(points, label))
    for one in confirmed:
        yield _encoded(one.figure, arms.draw(one))
    for info in courses:
        yield _encoded(info.name, charts.draw(info))


def _encoded(name: str, figure: Figure) -> Drawn:
    png = encode(figure, "png")
    return Drawn(name, figure.get_figwidth(), png, encode(figure, "svg"), lossless(png))
