"""The sweep in a few numbers and sentences: counts, extremes, and what to be careful about."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.facets import CELL, arrange, told_apart
from analysis.panels import VARIANTS
from analysis.runs import STATUSES, absent_columns, diverged
from analysis.synergy import FEW_SEEDS, MEASURES

NOT_ITS_OWN = {
    "dense": ["pruner", "selector", "preservation"],
    "prune_only": ["selector", "preservation"],
    "coreset_only": ["pruner", "preservation"],
    "joint": [],
}
"""By role, in what a cell's facets may differ: it stands in all of them and is one cell."""


@dataclass(frozen=True)
class Extreme:
    """The largest or smallest value of a measure, out of ``among`` cells; fractions."""

    measure: str
    value: float
    lo: float
    hi: float
    n: int
    q: float
    significant: bool
    where: str
    among: int

    def sentence(self) -> str:
        """The value with interval, n and place, in points."""
        interval = "no interval"
        if np.isfinite(self.lo):
            interval = f"95 % interval {_signed(self.lo)} to {_signed(self.hi)}"
        verdict = "not tested"
        if np.isfinite(self.q):
            verdict = f"{'significant' if self.significant else 'not significant'}, q = {self.q:.2g}"
        return (
            f"{_signed(self.value)} {MEASURES[self.measure].unit} ({interval}, n = {self.n}, {verdict}) "
            f"at {self.where}."
        ) + f" It is the extreme of {self.among} cells, hence exaggerated." * (self.among > 1)


@dataclass(frozen=True)
class Headline:
    """Counts of runs (cells with their seed) and grid points, best gain, strongest antagonism."""

    cells: int
    cells_finished: int
    cells_failed: int
    cells_stopped: int
    cells_diverged: int
    points_missing: int
    best_gain: Extreme | None
    strongest_antagonism: Extreme | None
    bliss_known: bool = True
    """Whether any joint cell has a departure from independence."""

    def numbers(self) -> dict[str, float]:
        """Finite numbers under flat names, for a tracker."""
        names = ("cells", "cells_finished", "cells_failed", "cells_stopped", "cells_diverged")
        out = {name: float(getattr(self, name)) for name in (*names, "points_missing")}
        for name in ("best_gain", "strongest_antagonism"):
            extreme: Extreme | None = getattr(self, name)
            if extreme is not None:
                parts = {"": extreme.value, "_lo": extreme.lo, "_hi": extreme.hi}
                out |= {f"{name}{key}": value for key, value in parts.items()}
        return {name: value for name, value in out.items() if np.isfinite(value)}


def headline(runs: pd.DataFrame, surface: pd.DataFrame, synergy: pd.DataFrame) -> Headline:
    """Best gain is over the coreset; antagonism is by ``bliss``, which has no floor effect."""
    status = runs["status"].value_counts()
    finished, failed, stopped = (int(status.get(s, 0)) for s in STATUSES)
    antagonism = _extreme(synergy, "bliss", sign=-1)
    return Headline(
        len(runs),
        finished,
        failed,
        stopped,
        int(diverged(runs).sum()),
        _without_run(surface),
        _extreme(synergy, "gain_over_coreset", sign=1),
        antagonism if antagonism is not None and antagonism.value < 0 else None,
        antagonism is not None,
    )


def _without_run(surface: pd.DataFrame) -> int:
    """Cells of the grid that have no run; a control of several facets counts once."""
    empty = surface[surface["n"] + surface["n_failed"] + surface["n_stopped"] == 0]
    cells = empty[list(surface.columns[: surface.columns.get_loc("mean")])]
    return sum(
        len(cells[cells["role"] == role].drop(columns=free).drop_duplicates()) for role, free in NOT_ITS_OWN.items()
    )


def _extreme(synergy: pd.DataFrame, measure: str, sign: int) -> Extreme | None:
    rows = synergy[(synergy["measure"] == measure) & synergy["value"].notna()]
    if rows.empty:
        return None
    place = int((sign * rows["value"]).to_numpy().argmax())
    row = rows.iloc[place]
    fields = [name for name in rows.columns[: rows.columns.get_loc("prune_rate")] if name not in VARIANTS]
    experiment = told_apart(rows, fields).iloc[place]
    methods = f"{row['pruner']} × {row['selector']}, preservation {row['preservation']}"
    where = (
        f"prune rate {100 * row['prune_rate']:g} %, coreset ratio {100 * row['coreset_ratio']:g} % "
        f"({', '.join(filter(None, (experiment, methods)))})"
    )
    numbers = (float(row["value"]), float(row["lo"]), float(row["hi"]), int(row["n"]))
    return Extreme(measure, *numbers, float(row["q"]), bool(row["significant"]), where, len(rows))


def notes(runs: pd.DataFrame, surface: pd.DataFrame, synergy: pd.DataFrame, has_history: bool) -> tuple[str, ...]:
    """Warnings in words, gravest first."""
    found = [
        *_about_runs(runs),
        *_few_seeds(runs),
        *_about_cells(surface, synergy),
        *absent_columns(runs),
    ]
    if not has_history:
        found.append("No history table: nothing about single epochs can be analysed.")
    return tuple(found)


def _about_runs(runs: pd.DataFrame) -> list[str]:
    found = []
    for status in ("failed", "stopped"):
        rows = runs[runs["status"] == status]
        if len(rows):
            reasons = sorted(set(rows["reason"].dropna())) if "reason" in rows else []
            said = f" ({'; '.join(reasons[:5])})" if reasons else ""
            found.append(f"Runs {status}: {len(rows)}{said}, counted but not averaged.")
    broken = int(diverged(runs).sum())
    if broken:
        found.append(f"Runs diverged: {broken}, counted as finished at chance.")
    done = arrange(runs).cells.query("status == 'finished'")
    if done.empty:
        found.append("No run is finished: there is nothing to average.")
    twice = int(done.loc[done.duplicated([*CELL, "seed"]), "cell_id"].nunique())
    if twice:
        found.append(
            f"{twice} runs share their cell and seed with another: their mean is used. Add the "
            "column that tells them apart."
        )
    return found


def _few_seeds(runs: pd.DataFrame) -> list[str]:
    """A cell is what its seeds have in common; one that serves several facets as a control counts once."""
    cells = arrange(runs).cells.query("status == 'finished'")
    alike = cells.groupby(CELL)
    seeds = pd.DataFrame({"seeds": alike["seed"].nunique(), "runs": alike["cell_id"].agg(lambda ids: " ".join(ids))})
    once = seeds.reset_index().drop_duplicates("runs")
    few, joint = int((once["seeds"] < FEW_SEEDS).sum()), int((once["role"] == "joint").sum())
    if not few:
        return []
    kinds = f"{joint} joint, {len(once) - joint} controls; runs that differ in their seed alone are one cell"
    return [f"{few} of {len(once)} cells ({kinds}) have fewer than {FEW_SEEDS} seeds: wide intervals, or none."]


def _about_cells(surface: pd.DataFrame, synergy: pd.DataFrame) -> list[str]:
    found = []
    empty = _without_run(surface)
    if empty:
        found.append(f"Grid points without a run: {empty}, crossed in the figures.")
    if synergy.empty:
        return [*found, "No joint cell (pruned, on a coreset): no measure of synergy exists."]
    lacking = synergy[synergy["note"].str.contains("no finished [a-z-]+ run", regex=True)]
    if len(lacking):
        cells = lacking.drop_duplicates(list(synergy.columns[: synergy.columns.get_loc("measure")]))
        found.append(f"{len(cells)} joint cells lack controls, for example: {cells['note'].iloc[0]}.")
    return found


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "−")
