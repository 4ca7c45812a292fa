"""Joint treatments against single ones at equal FLOPs; equal epochs flatter the larger budget."""

import numpy as np
import pandas as pd

from analysis.cost import at_full_cost, pareto
from analysis.facets import CELL, Grid, arrange
from analysis.inference import Floats
from analysis.surface import cell_statistics, per_seed, with_facets
from analysis.synergy import RESULT, JointCells, Measure, Terms, joint_cells, measured, with_terms

TITLE = "Gain over the single treatments at equal FLOPs"
DEFINITION = "y(p,α) − accuracy at the same FLOPs on the front of the single treatments"


def equal_flops(runs: pd.DataFrame) -> pd.DataFrame:
    """Joint accuracy minus the single treatments' at the same FLOPs; columns as ``synergy``.

    The front's cells (dense, prune-only and coreset-only of the facet) are chosen once by
    their means; between neighbours accuracy is linear in log FLOPs, beyond the dearest it is
    constant. A joint cell cheaper than the whole front has no contrast; costs are those of runs
    that did not diverge. Adds the column
    ``flops_relative``; empty when the table does not have it.
    """
    grid = arrange(at_full_cost(runs))
    cells = joint_cells(grid)
    columns = [*RESULT, "flops_relative"]
    if "flops_relative" not in runs or cells.frame.empty:
        empty = cells.frame.head(0).assign(**dict.fromkeys(columns, np.nan))
        return with_facets(empty, grid, columns)
    means = cell_statistics(grid, "flops_relative")["mean"].rename("flops").reset_index()
    neighbours = _neighbours(cells.frame[CELL].merge(means, on=CELL, how="left"), _front(grid, means))
    found = measured(_against(cells, grid, neighbours), "equal_flops", _measure(neighbours))
    found["flops_relative"] = neighbours["flops"].to_numpy()
    unknown = neighbours["flops"].isna().to_numpy() & (found["note"] == "")
    found.loc[unknown, "note"] = "no run of it has a cost: each diverged, or the table lacks it"
    cheaper = neighbours["weight"].isna().to_numpy() & (found["note"] == "")
    found.loc[cheaper, "note"] = "cheaper than every single treatment: add one with fewer FLOPs"
    unpaired = found["value"].isna() & (found["note"] == "")
    found.loc[unpaired, "note"] = "the front's cells share no seed with this one: add them"
    return with_facets(found, grid, columns)


def _front(grid: Grid, means: pd.DataFrame) -> pd.DataFrame:
    """Cells of the single treatments that no other one of their facet beats, by rising FLOPs."""
    accuracy = cell_statistics(grid, "accuracy_test")["mean"].rename("accuracy").reset_index()
    singles = means[means["role"] != "joint"].merge(accuracy, on=CELL).dropna()
    singles = singles[singles["flops"] > 0].sort_values(["facet", "flops"], kind="stable")
    keep = [pareto(g["flops"], g["accuracy"]) for _, g in singles.groupby("facet")]
    return singles[np.concatenate(keep)] if keep else singles


def _neighbours(joint: pd.DataFrame, front: pd.DataFrame) -> pd.DataFrame:
    """Row positions ``low``, ``high`` in the front and ``weight`` of high, per joint cell.

    The two cells themselves follow as low_role, low_prune_rate, ... and high_...
    """
    low, high = np.zeros(len(joint), dtype=int), np.zeros(len(joint), dtype=int)
    weight = np.full(len(joint), np.nan)
    flops, vertex = joint["flops"].to_numpy(), np.log(front["flops"].to_numpy())
    for facet, rows in joint.groupby("facet").indices.items():
        at = np.flatnonzero(front["facet"] == facet)
        inside = np.isfinite(flops[rows]) & (flops[rows] > 0)
        if not len(at) or not inside.any():
            continue
        rows = rows[inside]
        position = np.searchsorted(vertex[at], np.log(flops[rows]) + 1e-12) - 1
        rows, position = rows[position >= 0], position[position >= 0]
        low[rows], high[rows] = at[position], at[np.minimum(position + 1, len(at) - 1)]
        gap = vertex[high[rows]] - vertex[low[rows]]
        share = (np.log(flops[rows]) - vertex[low[rows]]) / np.where(gap > 0, gap, np.inf)
        weight[rows] = np.clip(share, 0, 1)
    out = joint.assign(weight=weight)
    for name, index in (("low", low), ("high", high)):
        for column in CELL[1:]:
            known = front[column]
            out[f"{name}_{column}"] = (
                known.to_numpy()[index] if len(front) else pd.Series(np.nan, out.index, known.dtype)
            )
    return out


def _against(cells: JointCells, grid: Grid, neighbours: pd.DataFrame) -> JointCells:
    """``cells`` with the two front cells in the place of the controls pruning and coreset."""
    seeds = per_seed(grid, ["accuracy_test"])
    stats = cell_statistics(grid, "accuracy_test").reset_index()[[*CELL, "mean", "sd", "n"]]
    long, groups = cells.long, {"joint": cells.frame[["mean", "sd", "n"]]}
    for side, term in (("low", "pruning"), ("high", "coreset")):
        at = neighbours[["facet", *(f"{side}_{c}" for c in CELL[1:])]].set_axis(CELL, axis=1)
        groups[term] = at.merge(stats, on=CELL, how="left")[["mean", "sd", "n"]]
        wanted = at.loc[long["cell"]].assign(seed=long["seed"].to_numpy())
        control = wanted.merge(seeds, on=[*CELL, "seed"], how="left")["accuracy_test"]
        long = long.assign(**{term: control.to_numpy()})
    groups["dense"] = groups["joint"].assign(n=0)
    return with_terms(cells.frame, long, groups)


def _measure(neighbours: pd.DataFrame) -> Measure:
    weight: Floats = neighbours["weight"].to_numpy(dtype=np.float64)

    def contrast(y: Terms) -> Floats:
        share = weight if y.joint.ndim == 1 else weight[:, None]
        return y.joint - (1 - share) * y.pruning - share * y.coreset

    return Measure(TITLE, DEFINITION, contrast, needs=())
