"""What a heat map shows, before anything is drawn: labels, numbers, states and the caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.charts import by_numbers
from analysis.facets import experiment_label
from analysis.inference import Floats
from analysis.surface import PRUNED
from analysis.synergy import MEASURES, UNANCHORED, Measure

VARIANTS = ["pruner", "selector", "preservation"]
COLOURED, CONTROL = "coloured", "control"
MISSING, FAILED, UNDEFINED = "missing", "failed", "undefined"
AGREED = "Without ±: all seeds give the same number. "
LEAST = 1.0  # points to either side that colours span at least, so that noise stays pale
SHEET = 1_500
"""Cells of a figure at most: some 40 inches of height, beyond which neither page nor memory takes it well."""
_ORDER = {"none": 0, "selective": 1, "complete": 2}


@dataclass(frozen=True)
class Curve:
    """A frontier over a panel, in units of its cells from the left and the top; ``lo`` and ``hi`` are places too."""

    x: Floats
    y: Floats
    lo: Floats
    hi: Floats


@dataclass(frozen=True)
class Panel:
    """One facet's grid; arrays are (prune rates, coreset ratios), or what else the map has down and across.

    Single treatments come first.

    value and half (of the 95 % interval) are in per cent or points; half is NaN at n = 1.
    A state is "coloured", "control" (a single treatment's accuracy in %), "missing" (no run),
    "failed" (no finished run) or "undefined" (finished, but without its controls, or with dense runs at chance).
    Of ``judged`` seeds of a joint cell ``fallen`` have collapsed; all 0 where nobody looked.
    """

    row: str
    column: str
    prune_rates: tuple[str, ...]
    coreset_ratios: tuple[str, ...]
    value: Floats
    half: Floats
    n: NDArray[np.int64]
    q: Floats
    significant: NDArray[np.bool_]
    state: NDArray[np.str_]
    fallen: NDArray[np.int64]
    judged: NDArray[np.int64]
    frontier: Curve | None = None

    @property
    def collapsed(self) -> NDArray[np.bool_]:
        """Cells of which more than half of the seeds have collapsed."""
        return 2 * self.fallen > self.judged

    def count(self, state: str) -> int:
        """Number of grid points in ``state``."""
        return int((self.state == state).sum())


@dataclass(frozen=True)
class Heatmap:
    """Small multiples of one quantity: rows are preservation, columns pruner and selector, or what the panels name.

    ``hatched`` says in words what a hatched cell lacks; empty for a quantity that is not tested. ``down`` and
    ``across`` name the axes; ``controls``: the first row and column are single treatments.
    """

    name: str
    experiment: str
    title: str
    unit: str
    subtitle: str
    caption: str
    hatched: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    panels: tuple[Panel, ...]
    down: str = "prune rate (%)"
    across: str = "coreset ratio (%)"
    controls: bool = True
    whole: Heatmap | None = None
    """The map that this one is a sheet of: colours and numbers of seeds are its."""

    @property
    def diverging(self) -> bool:
        """A contrast, coloured around 0; else an accuracy."""
        return bool(self.hatched)

    @property
    def coloured(self) -> bool:
        """Some cell has a number to be coloured by."""
        return any(p.count(COLOURED) for p in self.panels)

    @cached_property
    def seeds(self) -> int:
        """The most seeds of a coloured cell: the others give their number."""
        panels = (self.whole or self).panels
        return max((int(p.n[p.state == COLOURED].max(initial=0)) for p in panels), default=0)

    @property
    def limits(self) -> tuple[float, float]:
        """Colour limits over all panels; around 0 when diverging. Never narrower than a point to either side."""
        panels = (self.whole or self).panels
        shown = np.concatenate([p.value[p.state == COLOURED] for p in panels] or [np.zeros(1)])
        shown = shown if shown.size else np.zeros(1)
        low, high = float(shown.min()), float(shown.max())
        if self.diverging:
            most = max(-low, high, LEAST)
            return -most, most
        low, high = min(low, (low + high) / 2 - LEAST), max(high, (low + high) / 2 + LEAST)
        beyond = max(high - 100, 0)
        return low - beyond, high - beyond


def heatmaps(
    surface: pd.DataFrame,
    synergy: pd.DataFrame,
    collapse: pd.DataFrame | None = None,
    frontier: pd.DataFrame | None = None,
) -> tuple[Heatmap, ...]:
    """Accuracy and every measure, for each experiment of ``surface`` (of ``accuracy_test``).

    ``collapse`` and ``frontier``, as ``analysis.frontier`` gives them, are marked in the measures' maps and drawn over
    that of Bliss.
    """
    facets = list(surface.columns[: surface.columns.get_loc("role")])
    found: list[Heatmap] = []
    for label, suffix, grids in experiments(surface, facets):
        shown = _by_rates(_with_joint(grids, facets))
        found.append(accuracy_map(shown, facets, label, f"accuracy{suffix}", "Final test accuracy"))
        if (shown["role"] == "joint").any():
            marked = shown if collapse is None else judged(shown, collapse, facets)
            found += _measures(marked, synergy, frontier, facets, label, suffix)
    return tuple(found)


def worst_class_maps(surface: pd.DataFrame) -> Iterator[Heatmap]:
    """The lowest recall of a class, for each experiment of ``surface`` (of ``accuracy_worst_class``); none of none."""
    if surface.empty:
        return
    facets = list(surface.columns[: surface.columns.get_loc("role")])
    for label, suffix, grids in experiments(surface, facets):
        name, title = f"accuracy_worst_class{suffix}", "Final test accuracy of the worst class"
        yield accuracy_map(_by_rates(_with_joint(grids, facets)), facets, label, name, title)


def experiments(table: pd.DataFrame, facets: list[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Label, suffix of file names (empty where there is only one) and rows of each experiment and schedule."""
    fields = [c for c in facets if c not in VARIANTS]
    groups = list(table.groupby(fields, dropna=False, sort=True))
    labels = [experiment_label(dict(zip(fields, values, strict=True))) for values, _ in groups]
    names = [slug(label) for label in labels]
    for place, (label, name, (_, rows)) in enumerate(zip(labels, names, groups, strict=True)):
        again = names[:place].count(name)
        yield label, f"-{name}{f'-{again + 1}' if again else ''}" if len(groups) > 1 else "", rows


def _with_joint(grids: pd.DataFrame, facets: list[str]) -> pd.DataFrame:
    """Only the facets that have joint cells, if any has; else all."""
    joint = grids.loc[grids["role"] == "joint", facets].drop_duplicates()
    return grids.merge(joint, on=facets) if len(joint) else grids


def _by_rates(grids: pd.DataFrame) -> pd.DataFrame:
    """Every cell's place: prune rates ``down``, coreset ratios ``across``, in the panel ``named`` by its methods."""
    rates = percent(grids["prune_rate"]).where(~grids["role"].isin(PRUNED) | (grids["prune_rate"] > 0), "0 (FC)")
    named = grids["pruner"] + " × " + grids["selector"]
    return grids.assign(down=rates, across=percent(grids["coreset_ratio"]), named=named)


def accuracy_map(shown: pd.DataFrame, by: list[str], label: str, name: str, title: str) -> Heatmap:
    """A map of the mean of cells with their places (down, across, named), a panel for each value of ``by``."""
    panels = tuple(_accuracy_panel(g) for _, g in shown.groupby(by, dropna=False))
    kept = _kept(shown)
    subtitle = f"%, {spread('mean accuracy', panels)}"
    same = any(((p.state == COLOURED) & (p.n > 1) & np.isnan(p.half)).any() for p in panels)
    caption = f"First row and column: single treatments{_preserved(kept)}. {AGREED * same}{holes(panels)}"
    return assembled(name, label, title, "%", (subtitle, caption, ""), panels)


def judged(shown: pd.DataFrame, collapse: pd.DataFrame, facets: list[str]) -> pd.DataFrame:
    """Cells with the columns ``fallen`` and ``judged``: of so many seeds so many have collapsed."""
    on = [*facets, "prune_rate", "coreset_ratio"]
    joint = collapse[[*on, "k", "n"]].rename(columns={"k": "fallen", "n": "judged"}).assign(role="joint")
    return shown.merge(joint, on=[*on, "role"], how="left")


def _measures(
    shown: pd.DataFrame,
    synergy: pd.DataFrame,
    frontier: pd.DataFrame | None,
    facets: list[str],
    label: str,
    suffix: str,
) -> Iterator[Heatmap]:
    for name, measure in MEASURES.items():
        cells = with_contrasts(shown, synergy, name, facets)
        panels = measure_panels(cells, facets)
        if name == "bliss" and frontier is not None:
            grids = (grid for _, grid in cells.groupby(facets, dropna=False))
            panels = tuple(
                replace(p, frontier=_curve(g, frontier.merge(g[facets].head(1), on=facets)))
                for p, g in zip(panels, grids, strict=True)
            )
        yield assembled(
            name + suffix, label, measure.title, measure.unit, measure_words(measure, cells, panels), panels
        )


def with_contrasts(shown: pd.DataFrame, synergy: pd.DataFrame, measure: str, facets: list[str]) -> pd.DataFrame:
    """Cells with one measure's value, interval (lo_contrast, hi_contrast), q and significance, and its paired seeds."""
    rows = synergy[synergy["measure"] == measure]
    return shown.merge(
        rows.drop(columns=["n", "sd", "control_preservation"]).assign(pairs=rows["n"]),
        on=[*facets, "prune_rate", "coreset_ratio"],
        how="left",
        suffixes=("", "_contrast"),
    )


def measure_panels(cells: pd.DataFrame, by: list[str]) -> tuple[Panel, ...]:
    """A panel for each value of ``by``, of cells with their places and contrasts."""
    return tuple(_measure_panel(g) for _, g in cells.groupby(by, dropna=False))


def assembled(
    name: str,
    label: str,
    title: str,
    unit: str,
    words: tuple[str, str, str],
    panels: tuple[Panel, ...],
) -> Heatmap:
    """A heat map with its facets in order; ``words``: subtitle, caption, and what a hatched cell lacks."""
    rows = sorted({p.row for p in panels}, key=lambda r: (_ORDER.get(r.split(" (")[0], 9), r))
    columns = sorted({p.column for p in panels}, key=by_numbers)
    return Heatmap(name, label, title, unit, *words, tuple(rows), tuple(columns), panels)


def sheets(info: Heatmap, most: int = SHEET) -> tuple[Heatmap, ...]:
    """The map in figures of about ``most`` cells each, by columns of panels; itself where it has no more."""
    count = -(-sum(panel.value.size for panel in info.panels) // most)
    size = -(-len(info.columns) // count)
    parts = [info.columns[start : start + size] for start in range(0, len(info.columns), size)]
    if len(parts) == 1:
        return (info,)
    return tuple(_sheet(info, part, k, len(parts)) for k, part in enumerate(parts, 1))


def _sheet(info: Heatmap, columns: tuple[str, ...], k: int, of: int) -> Heatmap:
    panels = tuple(panel for panel in info.panels if panel.column in columns)
    return replace(
        info,
        name=f"{info.name}-{k}",
        title=f"{info.title} ({k} of {of})",
        caption=f"{info.caption} Colours and counts are those of all {of} sheets.",
        rows=tuple(row for row in info.rows if any(panel.row == row for panel in panels)),
        columns=columns,
        panels=panels,
        whole=info,
    )


def _accuracy_panel(grid: pd.DataFrame) -> Panel:
    half = (grid["hi"] - grid["lo"]) / 2
    return _panel(grid, grid["mean"], half, grid["n"], _states(grid, grid["mean"]))


def _measure_panel(grid: pd.DataFrame) -> Panel:
    """Joint cells show the contrast, the first row and column their treatments' accuracy."""
    joint = grid["role"] == "joint"
    state = _states(grid, grid["value"].where(joint, grid["mean"]))
    state = state.mask(~joint & (state == COLOURED), CONTROL)
    half = ((grid["hi_contrast"] - grid["lo_contrast"]) / 2).where(joint)
    n = grid["pairs"].where(joint, grid["n"]).fillna(0).astype("int64")
    return _panel(grid, grid["value"].where(joint, grid["mean"]), half, n, state)


def _curve(grid: pd.DataFrame, frontier: pd.DataFrame) -> Curve | None:
    """The frontier of one facet between the centres of its joint cells; at their edge where it lies beyond them.

    None where no run collapsed.
    """
    joint = grid[grid["role"] == "joint"]
    known = frontier[frontier["alpha_star"].notna() & (frontier["runs_collapsed"] > 0)].sort_values("prune_rate")
    if joint.empty or known.empty:
        return None
    rates = joint["prune_rate"].drop_duplicates().to_list()  # below the row of the coreset-only cells
    ratios = np.sort(joint["coreset_ratio"].unique())
    right = grid["coreset_ratio"].nunique()

    def place(name: str) -> Floats:
        alpha = known[name].to_numpy(dtype=np.float64)
        with np.errstate(divide="ignore"):
            between = np.interp(np.log(alpha), np.log(ratios), right - 0.5 - np.arange(len(ratios)))
        return np.where(alpha < ratios[0], right, np.where(alpha > ratios[-1], right - len(ratios), between))

    y = np.array([rates.index(rate) + 1.5 for rate in known["prune_rate"]])
    # The larger the ratio, the further left.
    return Curve(place("alpha_star"), y, place("hi"), place("lo"))


def _states(grid: pd.DataFrame, value: pd.Series) -> pd.Series:
    failed = (grid["n"] == 0) & (grid["n_failed"] + grid["n_stopped"] > 0)
    state = np.select([failed, grid["n"] == 0, value.isna()], [FAILED, MISSING, UNDEFINED], COLOURED)
    return pd.Series(state, index=grid.index, dtype="str")


def _panel(grid: pd.DataFrame, value: pd.Series, half: pd.Series, n: pd.Series, state: pd.Series) -> Panel:
    row, row_names = pd.factorize(grid["down"])
    column, column_names = pd.factorize(grid["across"])

    def square(values: pd.Series, dtype: str, empty: object) -> NDArray[Any]:
        out: NDArray[Any] = np.full((len(row_names), len(column_names)), empty, dtype=dtype)
        out[row, column] = values.to_numpy()
        return out

    first = grid.iloc[0]
    tested = grid["significant"].fillna(False) if "significant" in grid else state == COLOURED
    q = grid["q"] if "q" in grid else value * np.nan
    return Panel(
        str(first["preservation"]),
        str(first["named"]),
        tuple(row_names),
        tuple(column_names),
        square(100 * value, "f8", np.nan),
        square(100 * half, "f8", np.nan),
        square(n, "i8", 0),
        square(q, "f8", np.nan),
        square(tested.astype("bool"), "?", False),
        square(state, "U9", MISSING),
        fallen=square(_known(grid, "fallen"), "i8", 0),
        judged=square(_known(grid, "judged"), "i8", 0),
    )


def _known(grid: pd.DataFrame, column: str) -> pd.Series:
    return grid[column].fillna(0) if column in grid else pd.Series(0, index=grid.index)


def measure_words(measure: Measure, cells: pd.DataFrame, panels: tuple[Panel, ...]) -> tuple[str, str, str]:
    """Subtitle, caption, and the meaning of a hatch, of a measure's map."""
    q = np.concatenate([p.q[p.state == COLOURED] for p in panels])
    tested, all_tested = bool(np.isfinite(q).any()), bool(np.isfinite(q).all())
    failing = "no gain claimed" if measure.claims else "not significant"
    hatched = f"{failing}{'' if all_tested else ' or not tested'}" if tested else "not tested"
    subtitle = f"{measure.unit}; {spread('mean contrast', panels, 'paired seed')}"
    said = f"No test: {_untested(panels)}. " if q.size else ""
    if tested:
        said = _tests(measure, cells, f"{failing}, q ≥ 0.05{'' if all_tested else ', or not tested'}")
    grey = f"Grey: accuracy (%) of the single treatments{_preserved(_kept(cells))}. "
    single = grey if any(p.count(CONTROL) for p in panels) else ""
    return subtitle, f"{measure.definition}. {said}{single}{_collapse(panels)}{_bare(cells)}{holes(panels)}", hatched


def _untested(panels: tuple[Panel, ...]) -> str:
    most = max(int(p.n[p.state == COLOURED].max(initial=0)) for p in panels)
    return "a test needs two seeds" if most < 2 else "no cell's seeds tell a spread"


def _bare(cells: pd.DataFrame) -> str:
    """Why a contrast of several seeds has no interval."""
    bare = cells[cells["value"].notna() & (cells["pairs"] > 1) & cells["lo_contrast"].isna()]
    lone = bare["note"].str.contains(UNANCHORED, regex=False).to_numpy(dtype=bool)
    said = f"Without ±: {UNANCHORED}. " if lone.any() else ""
    return said + (AGREED if (~lone).any() else "")


def _collapse(panels: tuple[Panel, ...]) -> str:
    """What the outlines, the fractions in the corners and the line say."""
    fallen, line = any(p.fallen.any() for p in panels), any(p.frontier is not None for p in panels)
    if max(int(p.judged.max(initial=0)) for p in panels) <= 1:
        said = "Outlined, with 1/1 in the corner: its one seed has collapsed. " * fallen
        return said + "Line: frontier between what collapsed and what did not, without an interval. " * line
    said = "In the corner: collapsed of n seeds; outlined where they are more than half. " * fallen
    return said + (
        "Line: frontier, the coreset ratio at which half of the seeds would collapse, with its 95 % interval. " * line
    )


def _tests(measure: Measure, cells: pd.DataFrame, hatched: str) -> str:
    """What is adjusted for many cells (q, by which cells are hatched) and what is not (the intervals)."""
    tests = " / ".join(sorted(set(cells["test"].dropna()) - {""}))
    plain = ", a plain one's may cover it" if "sign-flip" in tests else ""
    by = f"of the {tests} test"
    if measure.claims:
        by = f"of one-sided {tests} tests against both single treatments, gains only: losses too are hatched"
    return (
        f"± is each cell's own interval, not adjusted for the number of cells. Hatched: {hatched}; q is the "
        f"false-discovery rate (Benjamini–Hochberg over all joint cells of one preservation value) {by}. "
        f"So a hatched cell's interval may leave out 0{plain}. "
    )


def spread(what: str, panels: tuple[Panel, ...], noun: str = "seed") -> str:
    """``mean ± half-width ..., n = 3 seeds in every cell``; no ± where no cell has one."""
    half = np.concatenate([p.half[p.state == COLOURED] for p in panels])
    if np.isfinite(half).any():
        return f"{what} ± half-width of its unadjusted 95 % t-interval, {_seeds(panels, noun)}"
    n = np.concatenate([p.n[p.state == COLOURED] for p in panels])
    if not n.size:
        return "no cell has a number"
    return f"{what.removeprefix('mean ' if n.max() == 1 else '')}, {_seeds(panels, noun)}: no interval"


def _kept(cells: pd.DataFrame) -> list[str]:
    """The preservation values of the coreset-only cells that are shown."""
    return sorted(set(cells["control_preservation"].dropna()) - {""})


def _preserved(kept: list[str]) -> str:
    return f", coreset-only with preservation {' / '.join(kept)}" if kept else ""


def _seeds(panels: tuple[Panel, ...], noun: str = "seed") -> str:
    n = np.concatenate([p.n[p.state == COLOURED] for p in panels])
    low, high = int(n.min()), int(n.max())
    if low == high:
        return f"n = {low} {noun}{'s' if low > 1 else ''} in every cell"
    return f"n = {low} to {high} {noun}s (given where below {high})"


def holes(panels: tuple[Panel, ...]) -> str:
    """How many cells have no number, and why."""
    words = {
        MISSING: "missing",
        FAILED: "failed or stopped",
        UNDEFINED: "undefined (no controls, or dense at chance)",
    }
    counts = [f"{sum(p.count(s) for p in panels)} {said}" for s, said in words.items()]
    return f"Cells without a number: {', '.join(counts)}."


def percent(fractions: pd.Series) -> pd.Series:
    """In per cent as text: four digits, or ten where four do not tell the fractions apart."""
    short, long = ((100 * fractions).map(form.format).astype("str") for form in ("{:.4g}", "{:.10g}"))
    return short if short.nunique() == long.nunique() else long


def slug(label: str) -> str:
    """``label`` as part of a file name."""
    return "-".join("".join(c if c.isalnum() or c in "._+-" else " " for c in label).split())
