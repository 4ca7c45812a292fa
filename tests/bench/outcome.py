"""What a finished sweep left behind, as numbers to compare: accuracies by cell, first start, last end, bare seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from orchestration.store import Store

POINT = ["prune_rate", "coreset_ratio", "selector", "preservation"]


@dataclass(frozen=True)
class Span:
    """From the first trial's start to the last one's end (Unix times), and what every distinct epoch took together.

    ``bare``: seconds of training, selection and evaluation as the trainer measured them; ``None`` where unknown.
    """

    start: float
    end: float
    bare: float | None

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return self.end - self.start


def stored_rows(store: Path) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Every epoch that a sweep trained, once, by stage and epoch."""
    opened = Store(store)
    stages = [path.name for path in store.glob("segments/*/*")]
    entries = (entry for stage in stages for entry in opened.entries(stage))
    return {(entry.stage, int(row["epoch"])): row for entry in entries for row in entry.rows}


def span_of_ours(folder: Path) -> Span:
    """From the store."""
    rows = stored_rows(folder / "store").values()
    start = min(row["time"] - row["seconds"] for row in rows)
    return Span(start, max(row["time"] for row in rows), sum(row["seconds"] for row in rows))


def span_of_naive(folder: Path) -> Span:
    """From the last result of every trial; Tune counts a trial's time from the start of its function."""
    table = pd.read_csv(folder / "results.csv")
    return Span((table["timestamp"] - table["time_total_s"]).min(), table["timestamp"].max(), None)


def ours(folder: Path) -> pd.DataFrame:
    """Final test accuracy of every cell: the columns of ``POINT``, seed and accuracy_test, indexed by cell_id."""
    runs = pd.read_parquet(folder / "runs.parquet").set_index("cell_id")
    return runs[[*POINT, "seed", "accuracy_test"]]


def naive(folder: Path) -> pd.DataFrame:
    """As ``ours``, in its spelling: what selects nothing has neither selector nor preservation."""
    table = pd.read_csv(folder / "results.csv", keep_default_na=False)
    table = table.rename(columns=lambda name: name.removeprefix("config/"))
    selects = table["coreset_ratio"].astype(float) < 1
    for column in ("selector", "preservation"):
        table[column] = table[column].where(selects, "none")
    table[["prune_rate", "coreset_ratio"]] = table[["prune_rate", "coreset_ratio"]].astype(float)
    return table[[*POINT, "seed", "accuracy_test"]]


def equal_to_the_bit(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two sweeps have the same cells with the same accuracies."""
    left, right = a["accuracy_test"].sort_index(), b["accuracy_test"].sort_index()
    return left.index.equals(right.index) and bool((left.to_numpy() == right.to_numpy()).all())


@dataclass(frozen=True)
class Agreement:
    """How far two scripts' means over seeds are apart, over the points of a grid.

    ``percentage_points``: the largest difference. ``deviations``: the largest in units of the point's own standard
    deviation over seeds (pooled of the two). ``p``: the smallest p-value of Welch's test, times the number of points.
    ``overall``: the mean difference over all points, in percentage points.
    """

    points: int
    percentage_points: float
    deviations: float
    p: float
    overall: float


def agreement(mine: pd.DataFrame, theirs: pd.DataFrame) -> Agreement:
    """Compare the points that both have. A deviation counts as one point at least: 360 test samples show no less."""
    groups = [dict(list(table.drop_duplicates([*POINT, "seed"]).groupby(POINT))) for table in (mine, theirs)]
    shared = [point for point in groups[0] if point in groups[1]]
    pairs = [[group[point]["accuracy_test"].to_numpy() for group in groups] for point in shared]
    apart = np.array([a.mean() - b.mean() for a, b in pairs])
    spread = np.array([np.hypot(a.std(ddof=1), b.std(ddof=1)) / np.sqrt(2) for a, b in pairs])
    p = [stats.ttest_ind(a, b, equal_var=False).pvalue for a, b in pairs]
    return Agreement(
        points=len(shared),
        percentage_points=100 * float(np.abs(apart).max()),
        deviations=float((np.abs(apart) / np.maximum(spread, 0.01)).max()),
        p=min(1.0, len(shared) * float(np.nanmin(p))),
        overall=100 * float(apart.mean()),
    )
