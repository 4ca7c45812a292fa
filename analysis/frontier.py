"""Where the grid collapses: how many seeds of each joint cell, and the frontier between whole and collapsed.

Seed s has collapsed at a joint cell when bliss_s < -0.1 and y_s < min(y(p, 1, s), y(0, a, s)) - 0.05: it lies well
below independence, and well below both single treatments. A seed without its controls is no evidence either way.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # its stats, which take a second, are loaded when they are used

from analysis.facets import Grid, arrange, told_apart
from analysis.inference import CONFIDENCE, Floats, wilson
from analysis.logistic import Plane, fit
from analysis.surface import with_facets
from analysis.synergy import FEW_SEEDS, Terms, bliss, joint_cells

BLISS_BELOW = -0.1
SINGLES_BELOW = 0.05
RESAMPLES = 200
ROUNDING = 1e-9
ESTABLISHING = 4
"""The fewest seeds whose Wilson interval can lie above one half: that of four collapsed of four."""
CELL_COLUMNS = ["prune_rate", "coreset_ratio", "k", "n", "share", "lo", "hi", "collapsed", "established", "note"]
FRONTIER_COLUMNS = ["prune_rate", "alpha_star", "lo", "hi", "n", "runs", "runs_collapsed", "runs_cut", "note"]
NOBODY = "no seed finished with its controls"


@dataclass(frozen=True)
class Indicators:
    """Which joint runs have collapsed. cells: facet, prune_rate, coreset_ratio, one row per joint cell.

    collapsed_CS is 1, 0, or NaN where the seed (a column, as in ``seeds``) has no run or lacks a control there; cut_C
    how many of the cell's runs failed or were stopped.
    """

    grid: Grid
    cells: pd.DataFrame
    seeds: tuple[int, ...]
    collapsed_CS: Floats
    cut_C: Floats


def collapsed(y: Terms) -> Floats:
    """1 where a run has collapsed, 0 where it has not, NaN where a control is missing."""
    fallen = (bliss(y) < BLISS_BELOW) & (y.joint < np.minimum(y.pruning, y.coreset) - SINGLES_BELOW)
    return np.where(np.isfinite(bliss(y)), fallen, np.nan)


def indicators(runs: pd.DataFrame) -> Indicators:
    """The collapse of every finished joint run of a validated runs table."""
    grid = arrange(runs)
    joint = joint_cells(grid)
    found, long = collapsed(joint.per_seed), joint.long
    seeds, column = np.unique(long["seed"].to_numpy(dtype=np.int64), return_inverse=True)
    out = np.full((len(joint.frame), len(seeds)), np.nan)
    out[long["cell"].to_numpy(), column] = found[long["cell"].to_numpy(), long["rank"].to_numpy()]
    cells = joint.frame[["facet", "prune_rate", "coreset_ratio"]]
    cut = (joint.frame["n_failed"] + joint.frame["n_stopped"]).to_numpy(dtype=np.float64)
    return Indicators(grid, cells, tuple(map(int, seeds)), out, cut)


def collapse_grid(runs: pd.DataFrame) -> pd.DataFrame:
    """Collapsed seeds per joint cell.

    Columns: facet columns, prune_rate, coreset_ratio, k of n seeds, share, lo and hi (95 % Wilson interval of the
    share), collapsed (k > n / 2), established (lo > 1/2: at least 4 seeds of 4), note.
    """
    found = indicators(runs)
    return with_facets(counts(found), found.grid, CELL_COLUMNS)


def counts(found: Indicators) -> pd.DataFrame:
    """The columns of ``collapse_grid`` beside facet, one row per joint cell."""
    n = np.isfinite(found.collapsed_CS).sum(axis=1)
    k = np.nansum(found.collapsed_CS, axis=1).astype(np.int64)
    lo, hi = wilson(k, n)
    with np.errstate(invalid="ignore"):
        established = lo > 0.5
    few = np.select([n == 0, n < FEW_SEEDS], [NOBODY, f"fewer than {FEW_SEEDS} seeds"], "")
    note = ["; ".join(filter(None, (said, _cut(int(cut))))) for said, cut in zip(few, found.cut_C, strict=True)]
    share = np.divide(k, n, out=np.full(len(n), np.nan), where=n > 0)
    return found.cells.assign(
        k=k, n=n, share=share, lo=lo, hi=hi, collapsed=2 * k > n, established=established, note=note
    )


def frontier(runs: pd.DataFrame) -> pd.DataFrame:
    """alpha*(p), the coreset ratio at which half of the seeds would collapse, for every facet with joint cells.

    Columns: facet columns, prune_rate, alpha_star, lo and hi (95 %), and of all rates together n (seeds), runs,
    runs_collapsed, runs_cut (failed or stopped: no evidence, even where a collapse was why), note. Smaller coresets
    than alpha_star collapse. 0: no ratio of the grid does; 1: all do; NaN where every run at a rate was cut.

    The fit is that of ``analysis.logistic``. The interval is alpha_star's on a log scale: t quantile times the standard
    error of a bootstrap over seeds, widened to n - 1 degrees of freedom (of a plain mean it is the t-interval: at 3
    seeds percentiles could not cover), with half of the grid's step around alpha_star added in quadrature, since seeds
    that agree know the place to one step only.
    """
    found = indicators(runs)
    parts = [_of_facet(found, facet) for facet in found.cells["facet"].unique()]
    empty = found.cells.reindex(columns=["facet", *FRONTIER_COLUMNS])
    return with_facets(pd.concat(parts, ignore_index=True) if parts else empty, found.grid, FRONTIER_COLUMNS)


def _of_facet(found: Indicators, facet: int) -> pd.DataFrame:
    mine = (found.cells["facet"] == facet).to_numpy()
    cells, collapsed_CS = found.cells[mine], found.collapsed_CS[mine]
    rates, ratios = (tuple(np.unique(cells[name].to_numpy())) for name in ("prune_rate", "coreset_ratio"))
    plane = Plane(rates, ratios)
    known = np.isfinite(collapsed_CS)
    seeds = int(known.any(axis=0).sum())
    k, n = int(np.nansum(collapsed_CS)), int(known.sum())
    cut_C, unknown = found.cut_C[mine], {"alpha_star": np.nan, "lo": np.nan, "hi": np.nan}
    counted = {"n": seeds, "runs": n, "runs_collapsed": k, "runs_cut": int(cut_C.sum())}
    frame = pd.DataFrame({"facet": facet, "prune_rate": rates, **counted})
    if n == 0 or len(ratios) == 1:
        why = NOBODY if n == 0 else "one coreset ratio only: nothing to find the frontier in"
        return frame.assign(**unknown, note=why)
    at = (cells[name].to_numpy(dtype=np.float64) for name in ("prune_rate", "coreset_ratio"))
    log_R, half_R = estimate(plane, plane.terms(*at), collapsed_CS)
    ends = {name: _held(plane, log_R + sign * half_R) for name, sign in (("lo", -1.0), ("hi", 1.0))}
    frame = frame.assign(alpha_star=_held(plane, log_R), **ends, note=_note(seeds, k, n, int(cut_C.sum())))
    at_rate = cells["prune_rate"].to_numpy() == np.array(rates)[:, None]
    lost = (at_rate @ known.sum(axis=1) == 0) & (at_rate @ cut_C > 0)
    frame.loc[lost, [*unknown]] = np.nan
    return frame


def estimate(plane: Plane, terms_CK: Floats, collapsed_CS: Floats) -> tuple[Floats, Floats]:
    """ln alpha* at every rate of the plane, and half of its 95 % interval (NaN at one seed).

    terms_CK are the cells' terms; collapsed_CS is 1, 0 or NaN by cell and seed.
    """
    collapsed_CS = collapsed_CS[:, np.isfinite(collapsed_CS).any(axis=0)]
    seeds = collapsed_CS.shape[1]
    log_R = plane.log_frontier(_fits(plane, terms_CK, collapsed_CS, np.ones((1, seeds))))[0]
    if seeds < 2:
        return log_R, np.full(len(log_R), np.nan)
    times_BS = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    unique_BS, weight_B = np.unique(times_BS, axis=0, return_counts=True)
    log_BR = plane.log_frontier(_fits(plane, terms_CK, collapsed_CS, unique_BS.astype(np.float64)))
    mean_R = np.average(log_BR, axis=0, weights=weight_B)
    variance_R = np.average((log_BR - mean_R) ** 2, axis=0, weights=weight_B)
    logs = np.log(plane.coreset_ratios)
    step_R = np.diff(logs)[np.clip(np.searchsorted(logs, log_R) - 1, 0, len(logs) - 2)]
    quantile = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, seeds - 1)
    return log_R, np.sqrt(quantile**2 * variance_R * seeds / (seeds - 1) + step_R**2 / 4)


def _fits(plane: Plane, terms_CK: Floats, collapsed_CS: Floats, times_BS: Floats) -> Floats:
    """A fit for each number of times that every seed counts."""
    known_CS = np.isfinite(collapsed_CS).astype(np.float64)
    return fit(terms_CK, times_BS @ np.nan_to_num(collapsed_CS).T, times_BS @ known_CS.T, plane.spread)


def _held(plane: Plane, log_R: Floats) -> Floats:
    """Ratios, 0 below the smallest of the grid and 1 above the largest."""
    low, high = np.log(plane.coreset_ratios[0]), np.log(plane.coreset_ratios[-1])
    return np.where(log_R < low - ROUNDING, 0.0, np.where(log_R > high + ROUNDING, 1.0, np.exp(log_R)))


def _cut(runs: int) -> str:
    return f"{runs} run{'s' * (runs > 1)} failed or stopped: no evidence" if runs else ""


def _note(seeds: int, k: int, n: int, cut: int) -> str:
    said = [
        _cut(cut),
        "no run collapsed" * (k == 0),
        "every run collapsed" * (k == n),
        "one seed: no interval" if seeds == 1 else f"{seeds} seeds: fewer than {FEW_SEEDS}" * (seeds < FEW_SEEDS),
    ]
    return "; ".join(filter(None, said))


def sentences(collapse: pd.DataFrame, frontier: pd.DataFrame) -> tuple[str, ...]:
    """``collapse_grid`` and ``frontier`` in words: a line for all joint cells, one for each facet that collapses."""
    said = [_counted(collapse)] if len(collapse) else []
    facets = [str(name) for name in frontier.columns[: frontier.columns.get_loc("prune_rate")]]
    fields = [name for name in facets if name not in ("pruner", "selector", "preservation")]
    experiment = told_apart(frontier, fields)
    for _, rows in frontier[frontier["runs_collapsed"] > 0].groupby(facets, dropna=False, sort=False):
        first = rows.iloc[0]
        named = f"{experiment[rows.index[0]]}: " * bool(experiment[rows.index[0]])
        where = f"{named}{first['pruner']} x {first['selector']}, preservation {first['preservation']}"
        if rows["alpha_star"].isna().all():
            said.append(f"frontier of {where}: unknown, {first['note']}")
            continue
        numbers = rows[["prune_rate", "alpha_star", "lo", "hi"]].to_numpy(dtype=np.float64)
        places = (_place(*map(float, row)) for row in numbers)
        cut = f"; {said_of}" if (said_of := _cut(int(first["runs_cut"]))) else ""
        said.append(f"frontier of {where}: alpha* {', '.join(places)} (n = {first['n']}{cut})")
    return tuple(said)


def _counted(collapse: pd.DataFrame) -> str:
    """How many joint cells collapsed, and what their number of seeds can say of that."""
    collapsed, established = (int(collapse[name].sum()) for name in ("collapsed", "established"))
    judged, most = int((collapse["n"] > 0).sum()), int(collapse["n"].max())
    said = f"{collapsed} of {judged or len(collapse)} joint cells collapsed"
    if 0 < judged < len(collapse):
        said = f"{said} ({len(collapse) - judged} more have no seed that can be judged)"
    if most == 0:
        return f"{said}: no seed finished with all controls of its cell, dense above chance, so none can be judged"
    said += ", each judged by one seed" if most == 1 else " in more than half of their seeds"
    if collapsed == 0:
        return said
    if most < ESTABLISHING:
        few = "one seed" if most == 1 else f"{most} seeds"
        return f"{said}: {few} cannot establish that ({ESTABLISHING} of {ESTABLISHING} could)"
    return f"{said}, {established} of them established (95 % Wilson interval above one half)"


def _place(rate: float, alpha: float, lo: float, hi: float) -> str:
    """``0.1 [0.05, 0.2] at p 0.9``; in words where it lies beyond the grid."""
    if np.isnan(alpha):
        return f"unknown at p {rate:g}"
    words = {0.0: "below the grid", 1.0: "above the grid"}
    # 0 and 1 stand for beyond the grid: an interval from one to the other says that any ratio may be it.
    interval = "" if np.isnan(lo) or lo == hi else " [anything]" if (lo, hi) == (0, 1) else f" [{lo:.2g}, {hi:.2g}]"
    return f"{words.get(alpha, f'{alpha:.2g}')}{interval} at p {rate:g}"
