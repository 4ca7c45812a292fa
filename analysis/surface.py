"""The measured surface: a metric over the (prune rate, coreset ratio) grid of each facet."""

import numpy as np
import pandas as pd

from analysis.facets import CELL, Grid, arrange
from analysis.inference import half_width
from analysis.runs import TableError

PRUNED = ("prune_only", "joint")
REDUCED = ("coreset_only", "joint")
COLUMNS = ["mean", "sd", "n", "lo", "hi", "n_failed", "n_stopped"]


def surface(runs: pd.DataFrame, metric: str = "accuracy_test") -> pd.DataFrame:
    """Mean of ``metric`` over seeds for every cell of every facet's completed grid.

    Columns: facet columns, role, prune_rate, coreset_ratio, mean, sd, n (seeds), lo and hi
    (95 % t-interval), n_failed, n_stopped, control_preservation (of a coreset-only cell).
    Failed and stopped runs are counted but not averaged. A cell without runs has n = 0 and NaN.

    Raises:
        TableError: ``runs`` has no such numeric column.
    """
    if metric not in runs.columns or not pd.api.types.is_numeric_dtype(runs[metric]):
        numeric = ", ".join(runs.select_dtypes("number").columns)
        raise TableError(f"runs: no numeric column {metric}; choose one of {numeric}.")
    grid = arrange(runs)
    found = cell_statistics(grid, metric).reset_index()
    cells = _completed(grid).merge(found, on=CELL, how="left")
    counts = ["n", "n_failed", "n_stopped"]
    cells[counts] = cells[counts].fillna(0).astype("int64")
    return with_facets(cells, grid, [*CELL[1:], *COLUMNS, "control_preservation"])


def per_seed(grid: Grid, metrics: list[str]) -> pd.DataFrame:
    """Finished runs as one row per cell and seed; runs equal in all but their id are averaged."""
    done = grid.cells[grid.cells["status"] == "finished"]
    return done.groupby([*CELL, "seed"], as_index=False)[metrics].mean()


def cell_statistics(grid: Grid, metric: str) -> pd.DataFrame:
    """Statistics of the cells that have runs, indexed by facet, role and the two axes."""
    seeds = per_seed(grid, [metric]).groupby(CELL)[metric]
    failed, stopped = (grid.cells["status"] == name for name in ("failed", "stopped"))
    cells = grid.cells.assign(failed=failed, stopped=stopped).groupby(CELL)
    out = pd.DataFrame(
        {
            "mean": seeds.mean(),
            "sd": seeds.std(),
            "n": seeds.count(),
            "n_failed": cells["failed"].sum(),
            "n_stopped": cells["stopped"].sum(),
            "control_preservation": cells["own_preservation"].first(),
        }
    )
    out["n"] = out["n"].fillna(0).astype("int64")
    half = half_width(out["sd"].to_numpy(dtype=np.float64), out["n"].to_numpy(dtype=np.int64))
    out["lo"], out["hi"] = out["mean"] - half, out["mean"] + half
    shown = out.index.get_level_values("role") == "coreset_only"
    out["control_preservation"] = out["control_preservation"].where(shown, "")
    return out


def with_facets(cells: pd.DataFrame, grid: Grid, columns: list[str]) -> pd.DataFrame:
    """``columns`` of ``cells`` behind the columns of their facet, in facet order."""
    ordered = cells.sort_values("facet", kind="stable")
    shown = grid.facets.loc[ordered["facet"], grid.keys.shown].reset_index(drop=True)
    return pd.concat([shown, ordered[columns].reset_index(drop=True)], axis=1)


def baselines_first(cells: pd.DataFrame) -> pd.DataFrame:
    """Sorted by prune rate up and coreset ratio down, the single treatments in front."""
    keys = cells.assign(_pruned=cells["role"].isin(PRUNED), _reduced=cells["role"].isin(REDUCED)).sort_values(
        ["facet", "_pruned", "prune_rate", "_reduced", "coreset_ratio"],
        ascending=[True, True, True, True, False],
    )
    return keys.drop(columns=["_pruned", "_reduced"])


def _completed(grid: Grid) -> pd.DataFrame:
    """Every row (none, or a prune rate) crossed with every column (full data, or a ratio)."""
    cells = grid.cells
    facets = grid.facets.index.to_frame(index=False)
    pruned = cells.loc[cells["role"].isin(PRUNED), ["facet", "prune_rate"]]
    reduced = cells.loc[cells["role"].isin(REDUCED), ["facet", "coreset_ratio"]]
    rows = pd.concat([facets.assign(prune_rate=0.0, pruned=False), pruned.assign(pruned=True)])
    columns = pd.concat([facets.assign(coreset_ratio=1.0, reduced=False), reduced.assign(reduced=True)])
    both = rows.drop_duplicates().merge(columns.drop_duplicates(), on="facet")
    role = np.select(
        [both["pruned"] & both["reduced"], both["pruned"], both["reduced"]],
        ["joint", "prune_only", "coreset_only"],
        "dense",
    )
    return baselines_first(both.assign(role=pd.Series(role, dtype="str"))[CELL])
