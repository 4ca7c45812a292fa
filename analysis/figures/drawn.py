"""Every figure of a report, encoded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.confirmations import Confirmation
from analysis.figures import arms, frontier, heatmap
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
    maps: Iterable[Heatmap], fronts: Iterable[tuple[str, str, pd.DataFrame]], confirmed: Iterable[Confirmation] = ()
) -> Iterator[Drawn]:
    """The heat maps, then the fronts (name, label, points), then the confirmations' arms, one at a time."""
    for info in maps:
        yield _encoded(info.name, heatmap.draw(info))
    for name, label, points in fronts:
        yield _encoded(name, frontier.draw(points, label))
    for one in confirmed:
        yield _encoded(one.figure, arms.draw(one))


def _encoded(name: str, figure: Figure) -> Drawn:
    png = encode(figure, "png")
    return Drawn(name, figure.get_figwidth(), png, encode(figure, "svg"), lossless(png))
