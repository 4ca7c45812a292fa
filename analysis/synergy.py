"""Gain and synergy of pruning with coresets, one contrast per seed.

Terms follow drug-combination analysis (highest single agent, additivity, Bliss independence).
The gain over the coreset is the SWaST paper's gain. All values are differences of accuracy as
fractions; ``bliss`` is a fraction of the above-chance scale.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.facets import CELL, Grid, arrange
from analysis.inference import (
    LEVEL,
    PERMUTATION_FROM,
    Floats,
    false_discovery,
    paired_test,
    summarise,
    welch,
)
from analysis.surface import baselines_first, cell_statistics, per_seed, with_facets

FEW_SEEDS = 3
UNANCHORED = "fewer than two of these seeds have a dense run"
RESULT = [
    *["prune_rate", "coreset_ratio", "measure", "value", "n", "sd", "lo", "hi", "welch_lo"],
    *["welch_hi", "p", "q", "significant", "test", "control_preservation", "note"],
]
# How each control is found from a joint cell, and what to call it.
CONTROLS = {
    "pruning": ("prune_only", ["facet", "prune_rate"]),
    "coreset": ("coreset_only", ["facet", "coreset_ratio"]),
    "dense": ("dense", ["facet"]),
}


@dataclass(frozen=True)
class Terms:
    """Accuracies that enter a contrast: (cells, seeds) matrices, or (cells,) group means.

    ``best_single`` is the better of pruning and coreset, chosen once per cell by its mean.
    """

    joint: Floats
    pruning: Floats
    coreset: Floats
    dense: Floats
    best_single: Floats
    chance: Floats
    dense_mean: Floats


def gain_over_coreset(y: Terms) -> Floats:
    """y(p, a) - y(0, a)."""
    return y.joint - y.coreset


def gain_over_pruning(y: Terms) -> Floats:
    """y(p, a) - y(p, 1)."""
    return y.joint - y.pruning


def hsa(y: Terms) -> Floats:
    """y(p, a) - y(best single)."""
    return y.joint - y.best_single


def additive(y: Terms) -> Floats:
    """y(p, a) - y(p, 1) - y(0, a) + y(0, 1)."""
    return y.joint - y.pruning - y.coreset + y.dense


def bliss(y: Terms) -> Floats:
    """r(p, a) - r(p, 1) r(0, a), r = (y - chance) / (mean y(0, 1) - chance)."""
    scale = np.where(y.dense_mean > y.chance, y.dense_mean - y.chance, np.nan)
    expected: Floats = (y.pruning - y.chance) * (y.coreset - y.chance) / scale**2
    return (y.joint - y.chance) / scale - expected


@dataclass(frozen=True)
class Measure:
    """A contrast with its words.

    ``needs``: the controls without which a seed has no contrast. ``claims``: contrasts that
    must each be above 0, one-sided, for a claim (p is the larger); none means a two-sided test
    of the contrast itself.
    """

    title: str
    definition: str
    contrast: Callable[[Terms], Floats]
    needs: tuple[str, ...]
    unit: str = "percentage points"
    claims: tuple[Callable[[Terms], Floats], ...] = ()


MEASURES: dict[str, Measure] = {
    "gain_over_coreset": Measure(
        "Gain over coreset only",
        "y(p,α) − y(0,α); zero: pruning changes nothing at this coreset",
        gain_over_coreset,
        ("coreset",),
    ),
    "gain_over_pruning": Measure(
        "Gain over pruning only",
        "y(p,α) − y(p,1); zero: the coreset changes nothing at this prune rate",
        gain_over_pruning,
        ("pruning",),
    ),
    "hsa": Measure(
        "Gain over the better single treatment (HSA)",
        "y(p,α) − y(best single), chosen once by its mean; zero: no better than it",
        hsa,
        ("pruning", "coreset"),
        claims=(gain_over_pruning, gain_over_coreset),
    ),
    "additive": Measure(
        "Departure from additivity",
        "y(p,α) − y(p,1) − y(0,α) + y(0,1); zero: the two losses add up",
        additive,
        ("pruning", "coreset", "dense"),
    ),
    "bliss": Measure(
        "Departure from Bliss independence",
        "r(p,α) − r(p,1)·r(0,α), r = (y − chance)/(mean y(0,1) − chance); zero: independent on the above-chance scale",
        bliss,
        ("pruning", "coreset"),
        unit="points of the above-chance scale, 100 = dense − chance",
    ),
}


@dataclass(frozen=True)
class JointCells:
    """Joint cells with their terms: ``per_seed`` (cells, seeds), ``mean``, ``sd``, ``n`` (cells,).

    frame: CELL columns, n_failed, n_stopped, control_preservation, family.
    long: one row per finished joint run with its cell number, rank and control accuracies.
    """

    frame: pd.DataFrame
    long: pd.DataFrame
    per_seed: Terms
    mean: Terms
    sd: dict[str, Floats]
    n: dict[str, NDArray[np.int64]]
    best: NDArray[np.str_]


def synergy(runs: pd.DataFrame) -> pd.DataFrame:
    """The five measures for every joint cell of a validated runs table.

    One row per facet, measure and cell: value (mean contrast over seeds), n, sd, lo and hi
    (95 % t-interval of the contrasts), welch_lo and welch_hi (unpaired), p (paired t below 10
    seeds, sign-flip permutation from 10), q (Benjamini-Hochberg over one measure and all joint
    cells of one preservation value), significant (q < 0.05), test, control_preservation, note.
    """
    grid = arrange(runs)
    cells = joint_cells(grid)
    parts = [measured(cells, name, measure) for name, measure in MEASURES.items()]
    return with_facets(pd.concat(parts, ignore_index=True), grid, RESULT)


def joint_cells(grid: Grid) -> JointCells:
    """The joint cells of every facet with their controls."""
    stats = cell_statistics(grid, "accuracy_test").reset_index()
    frame = baselines_first(stats[stats["role"] == "joint"]).reset_index(drop=True)
    frame = frame.drop(columns="control_preservation").assign(
        family=grid.facets["family"].loc[frame["facet"]].to_numpy()
    )
    frame = frame.merge(
        stats.loc[stats["role"] == "coreset_only", ["facet", "coreset_ratio", "control_preservation"]],
        on=["facet", "coreset_ratio"],
        how="left",
    ).fillna({"control_preservation": ""})
    seeds = per_seed(grid, ["accuracy_test", "chance"])
    long = _paired(frame, seeds)
    groups = {"joint": frame[["mean", "sd", "n"]]}
    for name, (role, on) in CONTROLS.items():
        right = stats.loc[stats["role"] == role, [*on, "mean", "sd", "n"]]
        groups[name] = frame[CELL].merge(right, on=on, how="left")[["mean", "sd", "n"]]
    return with_terms(frame, long, groups)


def _paired(frame: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Finished joint runs with their controls of the same seed: cell, rank, seed, accuracies."""
    numbered = frame[CELL].assign(cell=np.arange(len(frame)))
    long = numbered.merge(seeds, on=CELL).rename(columns={"accuracy_test": "joint"})
    long["rank"] = long.groupby("cell").cumcount()
    for name, (role, on) in CONTROLS.items():
        control = seeds.loc[seeds["role"] == role, [*on, "seed", "accuracy_test"]]
        control = control.rename(columns={"accuracy_test": name})
        long = long.merge(control, on=[*on, "seed"], how="left")
    return long


def with_terms(frame: pd.DataFrame, long: pd.DataFrame, groups: dict[str, pd.DataFrame]) -> JointCells:
    """Cells, paired runs and group statistics (mean, sd, n per cell) as the terms of contrasts."""
    size = len(frame)
    matrix = {name: _matrix(long, name, size) for name in groups}
    mean = {name: group["mean"].to_numpy(dtype=np.float64) for name, group in groups.items()}
    sd = {name: group["sd"].to_numpy(dtype=np.float64) for name, group in groups.items()}
    n = {name: group["n"].fillna(0).to_numpy(dtype=np.int64) for name, group in groups.items()}
    chance = summarise(_matrix(long, "chance", size)).mean
    both = np.where(np.isnan(matrix["pruning"]) | np.isnan(matrix["coreset"]), np.nan, 0.0)
    pruning, coreset = (summarise(matrix[name] + both).mean for name in ("pruning", "coreset"))
    best = np.where(pruning >= coreset, "pruning", "coreset")
    for table in (mean, sd, n):
        table["best_single"] = np.where(best == "pruning", table["pruning"], table["coreset"])
    choice = (best == "pruning")[:, None]
    matrix["best_single"] = both + np.where(choice, matrix["pruning"], matrix["coreset"])
    one = mean["dense"]
    return JointCells(
        frame,
        long,
        Terms(**matrix, chance=chance[:, None], dense_mean=one[:, None]),
        Terms(**mean, chance=chance, dense_mean=one),
        sd,
        n,
        best,
    )


def _matrix(long: pd.DataFrame, column: str, cells: int) -> Floats:
    width = int(long["rank"].max()) + 1 if len(long) else 1
    out = np.full((cells, width), np.nan)
    out[long["cell"].to_numpy(), long["rank"].to_numpy()] = long[column].to_numpy(dtype=np.float64)
    return out


def measured(cells: JointCells, name: str, measure: Measure) -> pd.DataFrame:
    """One measure for all joint cells: the result columns beside facet, in cell order."""
    values_CS = _contrasts(cells, measure)
    found, anchored = summarise(values_CS), _anchored(cells, measure, values_CS)
    p = np.where(anchored, paired_test(values_CS), np.nan)
    if measure.claims:
        tests = [paired_test(claim(cells.per_seed), "greater") for claim in measure.claims]
        p = np.where(found.n > 1, np.maximum.reduce(tests), np.nan)
    lo, hi = _unpaired(cells, measure)
    q = false_discovery(p, pd.factorize(cells.frame["family"])[0].astype(np.int64))
    uses_coreset = "coreset" in measure.needs
    return cells.frame[["facet", "prune_rate", "coreset_ratio"]].assign(
        measure=name,
        value=found.mean,
        n=found.n,
        sd=found.sd,
        lo=np.where(anchored, found.lo, np.nan),
        hi=np.where(anchored, found.hi, np.nan),
        welch_lo=lo,
        welch_hi=hi,
        p=p,
        q=q,
        significant=q < LEVEL,
        test=_test_names(found.n, p),
        control_preservation=cells.frame["control_preservation"] if uses_coreset else "",
        note=_notes(cells, measure, values_CS),
    )


def _contrasts(cells: JointCells, measure: Measure) -> Floats:
    """One contrast per seed, (cells, seeds).

    The dense mean of ``bliss`` is shared by all seeds, so its error would escape a spread over
    seeds (7 % false positives at a level of 5 %). Each seed therefore carries its own part of
    it to first order; these parts have mean 0, the value is that of the definition. Where m of n
    seeds have a dense run, the parts are larger, as the mean of m is less certain than that of n.
    """
    values_CS = measure.contrast(cells.per_seed)
    slope_C = _slope(measure, cells.mean, ("dense_mean",))
    own_CS = np.where(np.isfinite(values_CS), cells.per_seed.dense, np.nan)
    n, m = (np.isfinite(values).sum(axis=1) for values in (values_CS, own_CS))
    larger_C = np.sqrt(n * (n - 1) / np.maximum(m * (m - 1), 1))
    part_CS: Floats = (slope_C * larger_C)[:, None] * (own_CS - summarise(own_CS).mean[:, None])
    return np.asarray(values_CS + np.nan_to_num(part_CS))


def _anchored(cells: JointCells, measure: Measure, values_CS: Floats) -> NDArray[np.bool_]:
    """Whether the contrasts hold the error of the dense mean: where it enters, two seeds with a dense run do."""
    m = (np.isfinite(values_CS) & np.isfinite(cells.per_seed.dense)).sum(axis=1)
    return np.asarray((m > 1) | (_slope(measure, cells.mean, ("dense_mean",)) == 0))


def _slope(measure: Measure, at: Terms, names: tuple[str, ...], step: float = 1e-4) -> Floats:
    """Derivative of the contrast by the terms ``names`` together, by central difference."""
    up, down = ({name: getattr(at, name) + sign * step for name in names} for sign in (1, -1))
    slope = (measure.contrast(replace(at, **up)) - measure.contrast(replace(at, **down))) / (2 * step)
    return np.where(np.abs(slope) < 1e-9, 0.0, slope)


def _unpaired(cells: JointCells, measure: Measure) -> tuple[Floats, Floats]:
    """Welch interval by the delta method (exact where the contrast is linear)."""
    terms = {name: (name, "dense_mean") if name == "dense" else (name,) for name in cells.n}
    slopes = np.stack([_slope(measure, cells.mean, names) for names in terms.values()])
    sd, n = np.stack(list(cells.sd.values())), np.stack(list(cells.n.values()))
    return welch(slopes, sd, n, measure.contrast(cells.mean))


def _test_names(n: NDArray[np.int64], p: Floats) -> NDArray[np.str_]:
    tested = np.where(n >= PERMUTATION_FROM, "sign-flip", "paired t")
    return np.where(np.isfinite(p), tested, "")


def _notes(cells: JointCells, measure: Measure, values_CS: Floats) -> list[str]:
    """What a reader of each cell must know, gravest first; empty when all is well."""
    found = summarise(values_CS)
    parts = [np.where(cells.frame["n"] == 0, "no finished run of this cell: rerun or add it", "")]
    parts += [_lacking(cells, need) for need in measure.needs]
    if measure.contrast is bliss:
        flat = ~(cells.mean.dense_mean > cells.mean.chance) & (cells.frame["n"] > 0)
        parts.append(np.where(flat, "no dense run above chance to measure by: add (0, 1), or train it longer", ""))
        lone = (found.n > 1) & ~flat & ~_anchored(cells, measure, values_CS)
        parts.append(np.where(lone, f"{UNANCHORED}: no interval, no test", ""))
    few = [f"{n} seeds: fewer than {FEW_SEEDS}" for n in range(FEW_SEEDS)]
    few[0], few[1] = "", "one seed: no interval, no test"
    parts.append(np.array([*few, ""])[np.minimum(found.n, FEW_SEEDS)])
    equal = (found.n > 1) & np.isnan(found.lo)
    parts.append(np.where(equal, "all seeds give the same contrast: no interval", ""))
    if measure.claims:
        said = np.where(cells.best == "pruning", "best single: prune-only", "best single: coreset-only")
        parts.append(np.where(found.n > 0, said, ""))
    return ["; ".join(filter(None, said)) for said in zip(*parts, strict=True)]


def _lacking(cells: JointCells, need: str) -> NDArray[np.str_]:
    """Which control to add, for the joint cells with a finished seed that has none."""
    absent = cells.long[cells.long[need].isna()]
    out = np.full(len(cells.frame), "", dtype=object)
    rates, ratios = cells.frame["prune_rate"].to_list(), cells.frame["coreset_ratio"].to_list()
    listed = absent["seed"].astype("str").groupby(absent["cell"]).agg(", ".join)
    for cell, seeds in zip(listed.index.to_list(), listed.to_list(), strict=True):
        p = rates[cell] if need == "pruning" else 0.0
        a = ratios[cell] if need == "coreset" else 1.0
        role = CONTROLS[need][0].replace("_", "-")
        out[cell] = f"no finished {role} run ({p:g}, {a:g}) for seed {seeds}: add or rerun it"
    return out
