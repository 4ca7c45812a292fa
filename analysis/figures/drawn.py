"""Every figure of a report, encoded."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from analysis.charts import Charts
from analysis.confirmations import Confirmation
from analysis.figures import arms, charts, frontier, heatmap
from analysis.figures.canvas import encode, lossless, png, rendered
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
    """Heat maps, fronts (name, label, points), the confirmations' arms, courses over epochs, one at a time.

    The next one is drawn while a thread compresses the one before, for which Pillow needs no interpreter.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        before: Future[Drawn] | None = None
        for name, figure in _figures(maps, fronts, confirmed, courses):
            image, svg = rendered(figure), encode(figure, "svg")
            if before is not None:
                yield before.result()
            before = beside.submit(_drawn, name, figure.get_figwidth(), image, svg)
        if before is not None:
            yield before.result()


def _figures(
    maps: Iterable[Heatmap],
    fronts: Iterable[tuple[str, str, pd.DataFrame]],
    confirmed: Iterable[Confirmation],
    courses: Iterable[Charts],
) -> Iterator[tuple[str, Figure]]:
    for one_map in maps:
        yield one_map.name, heatmap.draw(one_map)
    for name, label, points in fronts:
        yield name, frontier.draw(points, label)
    for one in confirmed:
        yield one.figure, arms.draw(one)
    for info in courses:
        yield info.name, charts.draw(info)


def _drawn(name: str, width: float, image: Image.Image, svg: bytes) -> Drawn:
    return Drawn(name, width, png(image), svg, lossless(image))
