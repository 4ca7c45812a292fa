"""What accuracy costs: one point per treatment, its Pareto front, and the totals."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.facets import own_columns, roles
from analysis.inference import half_width
from analysis.runs import diverged

COSTS = ("seconds", "flops_dense", "flops_sparse", "flops_selection", "flops_relative")


def pareto(cost: pd.Series, value: pd.Series) -> NDArray[np.bool_]:
    """True where no point costs at most as much and is worth more; of equals, the first."""
    c, v = cost.to_numpy(dtype=np.float64), value.to_numpy(dtype=np.float64)
    order = np.lexsort((-v, c))
    before = np.concatenate([[-np.inf], np.fmax.accumulate(v[order])[:-1]])
    front = np.zeros(len(v), dtype=bool)
    front[order] = (v[order] > before) & np.isfinite(c[order])
    return front


def at_full_cost(runs: pd.DataFrame) -> pd.DataFrame:
    """The table without the costs of diverged runs: they end where the run broke, which makes no treatment cheap."""
    costs = [c for c in ("flops_relative", "seconds") if c in runs]
    return runs.assign(**{c: runs[c].mask(diverged(runs)) for c in costs})


def points(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per treatment: accuracy mean, lo, hi (95 % t), n, and its mean costs (of runs that did not diverge).

    Columns: facet columns (the treatment's own), experiment (in words), role, prune_rate, coreset_ratio, mean, lo, hi,
    n, those of ``flops_relative`` and ``seconds`` that the table has, and ``front``: on the
    Pareto front of its experiment. Without ``flops_relative`` no point is on a front.
    """
    runs = at_full_cost(runs)
    own, shown = own_columns(runs)
    keys = [*shown, "experiment", "role", "prune_rate", "coreset_ratio"]
    costs = [c for c in ("flops_relative", "seconds") if c in runs]
    table = pd.concat([own, runs[["seed", "prune_rate", "coreset_ratio", "accuracy_test", *costs]]], axis=1).assign(
        role=roles(runs)
    )
    table = table[runs["status"] == "finished"]
    seeds = table.groupby([*keys, "seed"], dropna=False, as_index=False).mean()
    grouped = seeds.groupby(keys, dropna=False)
    out = grouped["accuracy_test"].agg(["mean", "std", "count"]).join(grouped[costs].mean())
    out = out.reset_index().rename(columns={"count": "n"})
    half = half_width(out.pop("std").to_numpy(), out["n"].to_numpy())
    out["lo"], out["hi"], out["front"] = out["mean"] - half, out["mean"] + half, False
    if "flops_relative" in out:
        for rows in out.groupby("experiment").indices.values():
            found = out.iloc[rows]
            out.loc[rows, "front"] = pareto(found["flops_relative"], found["mean"])
    return out


def totals(runs: pd.DataFrame) -> pd.DataFrame:
    """Per status and for all: number of runs and summed costs, each run as if it ran alone; branches by themselves.

    ``flops_relative`` sums to ``dense_trainings``; columns the table lacks are left out.
    """
    costs = [c for c in COSTS if c in runs]
    status = runs["status"]
    if "branched_from" in runs:
        status = status.where(runs["branched_from"].isna(), "branch, " + status)
    by_status = runs.groupby(status)[costs].sum()
    by_status.insert(0, "runs", status.value_counts())
    everything = by_status.sum().rename("all").to_frame().T
    summed = pd.concat([by_status, everything]).rename(columns={"flops_relative": "dense_trainings"})
    return summed.rename_axis("status").reset_index()
