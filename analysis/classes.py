"""Synergy by class: an average hides a class that is gone. Departure from Bliss independence, class by class."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.charts import by_numbers
from analysis.episodes import CLASS, recall_columns
from analysis.facets import arrange
from analysis.inference import LEVEL, false_discovery
from analysis.panels import (
    COLOURED,
    FAILED,
    MISSING,
    UNDEFINED,
    Heatmap,
    Panel,
    assembled,
    experiments,
    holes,
    percent,
    spread,
)
from analysis.runs import diverged
from analysis.surface import surface, with_facets
from analysis.synergy import MEASURES, joint_cells, measured

WORST = "accuracy_worst_class"
CLASSES, CELLS = 10, 6
RESULT = ["prune_rate", "coreset_ratio", "class", "value", "n", "lo", "hi", "p", "q", "significant", "runs"]
"""``runs``: finished runs of the joint cell, some of which may lack a control."""


@dataclass(frozen=True)
class Classes:
    """``worst``: the surface of the lowest recall. ``synergy``: a row per joint cell and class. ``losses``: per class.

    Frames are empty where the runs table has no such columns; ``notes`` say so.
    """

    worst: pd.DataFrame = field(default_factory=pd.DataFrame)
    synergy: pd.DataFrame = field(default_factory=pd.DataFrame)
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)
    heatmaps: tuple[Heatmap, ...] = ()
    notes: tuple[str, ...] = ()


def classes(runs: pd.DataFrame) -> Classes:
    """Everything by class that the runs table holds."""
    runs = at_chance(runs)
    notes = []
    worst = surface(runs, WORST) if WORST in runs and runs[WORST].notna().any() else pd.DataFrame()
    if worst.empty:
        notes.append(f"Column {WORST} is missing: no surface of the worst class.")
    found = by_class(runs)
    if found is None:
        notes.append(f"Columns {CLASS}0, ... are missing: no synergy by class.")
        return Classes(worst=worst, notes=tuple(notes))
    return Classes(worst, found, losses(found), tuple(maps(found)), tuple(notes))


def at_chance(runs: pd.DataFrame) -> pd.DataFrame:
    """Our reading: a diverged run, which counts at chance, does so in every class."""
    names = [name for name in (WORST, *recall_columns(runs)) if name in runs]
    broken = diverged(runs)
    told: dict[str, pd.Series] = {name: runs[name].mask(broken, runs["chance"]) for name in names}
    return runs.assign(**told)


def by_class(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Bliss of each class's recall at every joint cell: facet columns and RESULT; ``None`` without recalls.

    As ``synergy``, but q is over all classes and joint cells of one preservation value.
    """
    names = [name for name in recall_columns(runs) if runs[name].notna().any()]
    if not names:
        return None
    grid = arrange(runs)
    parts = []
    for name in names:
        cells = joint_cells(replace(grid, cells=grid.cells.assign(accuracy_test=grid.cells[name])))
        rows = measured(cells, "bliss", MEASURES["bliss"])
        own: dict[str, Any] = {
            "family": cells.frame["family"],
            "runs": cells.frame["n"],
            "class": name.removeprefix(CLASS),
        }
        parts.append(rows.assign(**own))
    found = pd.concat(parts, ignore_index=True)
    family = pd.factorize(found["family"])[0].astype(np.int64)
    q = false_discovery(found["p"].to_numpy(dtype=np.float64), family)
    return with_facets(found.assign(q=q, significant=q < LEVEL), grid, RESULT)


def losses(found: pd.DataFrame) -> pd.DataFrame:
    """One row per facet and class, the class that loses most first.

    mean and worst of the value over the joint cells, where the worst is; how many of the cells lose significantly, and
    the mildest of them, with the largest share of the training left, alpha (1 - p).
    """
    facets = list(found.columns[: found.columns.get_loc("prune_rate")])
    found, rows = found.assign(cell=_cells(found)), []
    for values, group in found.groupby([*facets, "class"], dropna=False, sort=True):
        known = group[group["value"].notna()]
        if known.empty:
            continue
        lost = known[known["significant"] & (known["value"] < 0)]
        left = lost["coreset_ratio"] * (1 - lost["prune_rate"])
        lowest = known.iloc[int(known["value"].argmin())]
        rows.append(
            {
                **dict(zip([*facets, "class"], values, strict=True)),
                "cells": len(known),
                "cells_lost": len(lost),
                "mean": known["value"].mean(),
                "worst": lowest["value"],
                "worst_at": lowest["cell"],
                "first_lost_at": lost["cell"].iloc[int(left.argmax())] if len(lost) else "",
            }
        )
    names = [*facets, "class", "cells", "cells_lost", "mean", "worst", "worst_at", "first_lost_at"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values([*facets, "mean"], ignore_index=True)


def _cells(rows: pd.DataFrame) -> pd.Series:
    return percent(rows["prune_rate"]) + " / " + percent(rows["coreset_ratio"])


def maps(found: pd.DataFrame) -> Iterator[Heatmap]:
    """A heat map per experiment: the classes and the joint cells that lose most, small multiples by facet."""
    facets = list(found.columns[: found.columns.get_loc("prune_rate")])
    for label, suffix, group in experiments(found, facets):
        known = group[group["value"].notna()]
        if known.empty:
            continue
        shown = known.assign(cell=_cells(known))
        worst = shown.groupby("class")["value"].mean().nsmallest(CLASSES).index
        named = tuple(sorted(worst, key=by_numbers))
        deepest = shown.groupby("cell")["value"].min().nsmallest(CELLS).index
        order = shown.sort_values(["prune_rate", "coreset_ratio"], ascending=[True, False])["cell"]
        cells = tuple(cell for cell in order.drop_duplicates() if cell in set(deepest))
        placed = group.assign(cell=_cells(group))
        panels = tuple(_panel(part, named, cells) for _, part in placed.groupby(facets, dropna=False, sort=True))
        yield _map(label, suffix, panels, (known["class"].nunique(), shown["cell"].nunique()))


def _panel(rows: pd.DataFrame, named: tuple[str, ...], cells: tuple[str, ...]) -> Panel:
    placed = rows.set_index(["class", "cell"]).reindex(pd.MultiIndex.from_product([named, cells]))
    shape, first = (len(named), len(cells)), rows.iloc[0]
    value = placed["value"].to_numpy(dtype=np.float64).reshape(shape)
    half = (placed["hi"] - placed["lo"]).to_numpy(dtype=np.float64).reshape(shape) / 2
    runs = placed["runs"].to_numpy(dtype=np.float64).reshape(shape)
    n = placed["n"].fillna(0).to_numpy(dtype=np.int64).reshape(shape)
    return Panel(
        str(first["preservation"]),
        f"{first['pruner']} × {first['selector']}",
        named,
        cells,
        100 * value,
        100 * half,
        n,
        placed["q"].to_numpy(dtype=np.float64).reshape(shape),
        placed["significant"].eq(True).to_numpy(dtype=bool).reshape(shape),
        np.select([np.isfinite(value), runs > 0, runs == 0], [COLOURED, UNDEFINED, FAILED], MISSING),
        fallen=np.zeros(shape, dtype=np.int64),
        judged=np.zeros(shape, dtype=np.int64),
    )


def _map(label: str, suffix: str, panels: tuple[Panel, ...], of: tuple[int, int]) -> Heatmap:
    measure = MEASURES["bliss"]
    shape = panels[0].value.shape
    caption = (
        f"{measure.definition}, with y a class's recall. Shown: {shape[0]} of {of[0]} classes and {shape[1]} of "
        f"{of[1]} joint cells, those that lose most, so they are extremes; all are in classes.csv. Hatched: not "
        f"significant, q ≥ {LEVEL:g} (Benjamini–Hochberg over all classes and joint cells of one preservation value), "
        f"or not tested. {holes(panels)}"
    )
    subtitle = f"points of the class's above-chance scale; {spread('mean contrast', panels, 'paired seed')}"
    title = "Which classes lose: departure from Bliss independence by class"
    words = subtitle, caption, "not significant or not tested"
    info = assembled(f"class_bliss{suffix}", label, title, measure.unit, words, panels)
    return replace(info, down="class", across="prune rate / coreset ratio (%)", controls=False)
