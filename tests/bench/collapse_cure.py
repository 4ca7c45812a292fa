"""How deep is the joint cell's loss, and how much of it does state preservation cure? Paired by seed.

    swast run sweeps/grids/collapse-cure.yaml
    python tests/bench/collapse_cure.py outputs/collapse-cure

``loss``: accuracy of the joint cell minus that of the lower single treatment (the one with the lower mean).
``cure``: joint cell with preservation minus without. Percentage points, 95 % t-intervals. Any grid of one pruner.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from scipy import stats

from analysis.runs import load_runs


def by_seed(runs: pd.DataFrame, **wanted: object) -> pd.Series:
    """Test accuracy in per cent by seed of the runs with these values."""
    for column, value in wanted.items():
        runs = runs[runs[column] == value]
    return 100 * runs.set_index("seed")["accuracy_test"].sort_index()


def line(difference: pd.Series) -> str:
    """Mean, interval and number of seeds of a paired difference."""
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    n, sd = len(difference), difference.std()
    return f"{difference.mean():+.1f} [{interval.low:+.1f}, {interval.high:+.1f}] (sd {sd:.1f}, n = {n})"


def rows(runs: pd.DataFrame) -> Iterator[str]:
    """A row for every joint setting and kind of preservation."""
    balanced = runs.get("selector.balanced", pd.Series(False, runs.index)).fillna(False).astype(bool)
    runs = runs.assign(selector=runs["selector"].where(~balanced, runs["selector"] + ", balanced"))
    weight = runs.get("preservation_weight", pd.Series(float("nan"), runs.index))
    runs = runs.assign(kind=runs["preservation"] + weight.map(" {:g}".format).where(weight.notna(), ""))
    plain = runs[runs["preservation"] == "none"]
    joint = runs[(runs["prune_rate"] > 0) & (runs["coreset_ratio"] < 1)]
    for (selector, rate, ratio), mine in joint.groupby(["selector", "prune_rate", "coreset_ratio"]):
        dense = by_seed(plain, prune_rate=0, coreset_ratio=1.0)
        pruned = by_seed(plain, prune_rate=rate, coreset_ratio=1.0)
        coreset = by_seed(plain, selector=selector, prune_rate=0, coreset_ratio=ratio)
        both = by_seed(mine, preservation="none")
        lower = min(pruned, coreset, key=pd.Series.mean)
        for kind in sorted(set(mine["kind"]) - set(mine.loc[mine["preservation"] == "none", "kind"])):
            preserved = by_seed(mine, kind=kind)
            means = " | ".join(f"{a.mean():.1f} ± {a.std():.1f}" for a in (dense, pruned, coreset, both, preserved))
            ends = f"{line(both - lower)} | {line(preserved - both)}"
            yield f"| {selector} | {rate:g} | {ratio:g} | {kind} | {means} | {ends} |"


def main() -> None:
    """Print the table."""
    names = (
        "selector | p | α | preservation | dense | prune-only | coreset-only | joint | joint, preserved | loss | cure"
    )
    print(f"| {names} |\n|{'---|' * 11}")
    print("\n".join(rows(load_runs(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
