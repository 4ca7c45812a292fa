"""Cells that collapsed, beside their branches: the same cell from before the switch, with state preservation.

A branch is made because its original fell: the two are shown as they are, and no branch enters a mean of the grid.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.charts import Chart, Charts, Line, plain
from analysis.facets import find_keys, told_apart

MOST, COLUMNS = 6, 3
AS_IT_WAS, PRESERVED = "without preservation", "preserved from the switch"
FIELDS = ("pruner", "selector", "prune_rate", "coreset_ratio", "seed")


def apart(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The grid's own runs, and the branches."""
    if "branched_from" not in runs:
        return runs, runs.head(0)
    branch = runs["branched_from"].notna()
    return runs[~branch].reset_index(drop=True), runs[branch].reset_index(drop=True)


def table(runs: pd.DataFrame, branches: pd.DataFrame) -> pd.DataFrame:
    """A row per finished branch: the event, its cell, final test accuracy of both and what the branch gained.

    The deepest gain first; ``runs`` hold the originals.
    """
    if "branched_from" not in branches:
        return pd.DataFrame()
    done, keys = branches[branches["status"] == "finished"], find_keys(runs)
    settings = [*keys.experiment, *keys.schedule]
    split = done["branched_from"].str.rpartition("-")
    told = (
        done[[*FIELDS, *settings, "cell_id"]]
        .rename(columns={"cell_id": "branch"})
        .assign(
            event_id=done["branched_from"],
            cell_id=split[0],
            epoch=split[2].astype("int64"),
            branched=done["accuracy_test"],
        )
    )
    originals = runs[["cell_id", "accuracy_test"]].rename(columns={"accuracy_test": "original"})
    both = told.merge(originals, on="cell_id")
    both = both.assign(gain=both["branched"] - both["original"])
    both["experiment"] = told_apart(both, settings)
    both = both.sort_values(["gain", "event_id"], ascending=[False, True], ignore_index=True)
    return both[["event_id", "epoch", "experiment", *FIELDS, "original", "branched", "gain", "branch", "cell_id"]]


def charts(found: pd.DataFrame, history: pd.DataFrame) -> Charts | None:
    """Test accuracy over epochs of the cells with the largest and the smallest gains; ``None`` without a branch."""
    if found.empty or history.empty:
        return None
    shown = found if len(found) <= MOST else pd.concat([found.head(MOST // 2), found.tail(MOST - MOST // 2)])
    some = ", shown are the largest and the smallest gains" if len(found) > MOST else ""
    caption = (
        f"Each panel is one run (n = 1) and its branch: the same run up to the switch (vertical line), from there on "
        f"held to its predictions on the coreset. {len(found)} cells collapsed and were branched{some}. Branches were "
        f"chosen because their originals fell, and enter no mean."
    )
    title = "Cells that collapsed, and the same with state preservation"
    return Charts("branches", title, caption, COLUMNS, tuple(_charts(shown, history)))


def _charts(shown: pd.DataFrame, history: pd.DataFrame) -> Iterator[Chart]:
    for row in shown.to_dict("records"):
        rates = f"p\u00a0=\u00a0{100 * row['prune_rate']:g}\u00a0%, α\u00a0=\u00a0{100 * row['coreset_ratio']:g}\u00a0%"
        where = f"{row['experiment']}: " if row["experiment"] else ""
        cell = f"{where}{row['pruner']} × {row['selector']}, {rates}, seed\u00a0{row['seed']}"
        title = f"{100 * row['gain']:+.1f} points\n{cell}"
        lines = (_course(AS_IT_WAS, history, row["cell_id"]), _course(PRESERVED, history, row["branch"]))
        yield Chart(title, "test accuracy (%)", lines, (), (row["epoch"],))


def _course(name: str, history: pd.DataFrame, cell_id: str) -> Line:
    rows = history[history["cell_id"] == cell_id]
    accuracy = 100 * rows["accuracy_test"].to_numpy(dtype=np.float64, na_value=np.nan)
    return plain(name, rows["epoch"].to_numpy(dtype=np.int64), accuracy)
