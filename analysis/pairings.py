"""Which pruner goes with which selector: the cells of one prune rate and coreset ratio, methods against methods."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from analysis.charts import by_numbers
from analysis.panels import (
    Heatmap,
    accuracy_map,
    assembled,
    experiments,
    judged,
    measure_panels,
    measure_words,
    with_contrasts,
)
from analysis.surface import PRUNED, REDUCED
from analysis.synergy import MEASURES

POINTS = 4
"""Of the grid, that are shown at most."""
UNPRUNED, WHOLE = "no pruning", "all data"
_BY = ["preservation", "prune_rate_shown", "coreset_ratio_shown"]


def pairings(surface: pd.DataFrame, synergy: pd.DataFrame, collapse: pd.DataFrame | None = None) -> tuple[Heatmap, ...]:
    """Accuracy and Bliss, pruners down and selectors across, of every experiment with two or more of both.

    Parameters as of ``panels.heatmaps``. A panel is a point of the grid; the single treatments are its first row and
    column.
    """
    facets = list(surface.columns[: surface.columns.get_loc("role")])
    found: list[Heatmap] = []
    for label, suffix, grids in experiments(surface, facets):
        joint = grids[(grids["role"] == "joint") & (grids[["n", "n_failed", "n_stopped"]].sum(axis=1) > 0)]
        if joint["pruner"].nunique() > 1 and joint["selector"].nunique() > 1:
            found += _maps(grids, joint, (synergy, collapse), facets, (label, suffix))
    return tuple(found)


def _maps(
    grids: pd.DataFrame,
    joint: pd.DataFrame,
    measured: tuple[pd.DataFrame, pd.DataFrame | None],
    facets: list[str],
    named: tuple[str, str],
) -> Iterator[Heatmap]:
    (synergy, collapse), (label, suffix) = measured, named
    points, of = _points(joint)
    less = f" Shown: {len(points)} of {of} points of the grid, with the most pairs and the largest differences." * (
        len(points) < of
    )
    shown = _placed(grids, joint, points)
    accuracy = accuracy_map(shown, _BY, label, f"methods_accuracy{suffix}", "Pruner × selector: final test accuracy")
    marked = shown if collapse is None else judged(shown, collapse, facets)
    measure, cells = MEASURES["bliss"], with_contrasts(marked, synergy, "bliss", facets)
    panels = measure_panels(cells, _BY)
    title = f"Pruner × selector: {measure.title[0].lower()}{measure.title[1:]}"
    words = measure_words(measure, cells, panels)
    bliss = assembled(f"methods_bliss{suffix}", label, title, measure.unit, words, panels)
    for info in (accuracy, bliss):
        yield replace(info, caption=info.caption + less, down="pruner", across="selector")


def _points(joint: pd.DataFrame) -> tuple[list[tuple[float, float]], int]:
    """The points of the grid to show, in its order, and how many there are."""
    groups = joint.groupby(["prune_rate", "coreset_ratio"])["mean"]
    told = groups.agg(["count", "std"]).sort_values(["count", "std"], ascending=False, kind="stable")
    shown = sorted(told.head(POINTS).index.to_list(), key=lambda point: (point[0], -point[1]))
    return shown, len(told)


def _placed(grids: pd.DataFrame, joint: pd.DataFrame, points: list[tuple[float, float]]) -> pd.DataFrame:
    """The cells of each point and preservation with their places, in the order in which a panel shows them.

    A control is there once for every pair that it serves: the same numbers at the same place.
    """
    pairs = joint[["pruner", "selector", "preservation"]].drop_duplicates()
    cells = grids.merge(pairs, on=["pruner", "selector", "preservation"])
    pruned, reduced = cells["role"].isin(PRUNED), cells["role"].isin(REDUCED)
    placed = cells.assign(
        down=_ordered(cells["pruner"].where(pruned, UNPRUNED), UNPRUNED),
        across=_ordered(cells["selector"].where(reduced, WHOLE), WHOLE),
    )
    parts = []
    for rate, ratio in points:
        here = (~pruned | (cells["prune_rate"] == rate)) & (~reduced | (cells["coreset_ratio"] == ratio))
        at = f"prune rate {100 * rate:.4g} %, coreset ratio {100 * ratio:.4g} %"
        parts.append(placed[here].assign(named=at, prune_rate_shown=rate, coreset_ratio_shown=-ratio))
    ordered = pd.concat(parts).sort_values([*_BY, "down", "across"], ignore_index=True)
    return ordered.astype({"down": "str", "across": "str"})


def _ordered(names: pd.Series, first: str) -> pd.Series:
    """Names that sort by themselves, numbers in them as numbers, behind ``first``."""
    order = sorted(names.unique(), key=lambda name: (name != first, by_numbers(name)))
    return names.astype(pd.CategoricalDtype(order, ordered=True))
