"""How deep is the joint cell's loss, and how much of it does state preservation cure? Paired by seed.

    swast run sweeps/grids/collapse-cure.yaml
    python tests/bench/collapse_cure.py outputs/collapse-cure

``loss``: accuracy of the joint cell minus that of the lower single treatment (the one with the lower mean).
``cure``: joint cell with complete preservation minus without. Percentage points, 95 % t-intervals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from scipy import stats

from analysis.runs import load_runs


def by_seed(runs: pd.DataFrame, **wanted: object) -> pd.Series:
    """Test accuracy in per cent by seed of the runs with these values."""
    for column, value in wanted.items():
        runs = runs[runs[column.replace("__", ".")] == value]
    return 100 * runs.set_index("seed")["accuracy_test"].sort_index()


def line(what: str, difference: pd.Series) -> str:
    """Mean, interval and number of seeds of a paired difference."""
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    n, sd = len(difference), difference.std()
    return f"{what} {difference.mean():+.1f} [{interval.low:+.1f}, {interval.high:+.1f}] (sd {sd:.1f}, n = {n})"


def main() -> None:
    """Print the table."""
    runs = load_runs(Path(sys.argv[1]))
    print("| selector | p | dense | prune-only | coreset-only | joint | joint, preserved | loss | cure |")
    print("|---|---|---|---|---|---|---|---|---|")
    for balanced in (False, True):
        mine = runs[runs["selector.balanced"].isna() | (runs["selector.balanced"] == balanced)]
        plain = mine[mine["preservation"] == "none"]
        for rate in (0.8, 0.9):
            dense = by_seed(plain, pruner="none", coreset_ratio=1.0)
            pruned = by_seed(plain, prune_rate=rate, coreset_ratio=1.0)
            coreset = by_seed(plain, pruner="none", coreset_ratio=0.1)
            joint = by_seed(plain, prune_rate=rate, coreset_ratio=0.1)
            preserved = by_seed(mine, preservation="complete", prune_rate=rate, coreset_ratio=0.1)
            lower = min(pruned, coreset, key=pd.Series.mean)
            means = " | ".join(f"{a.mean():.1f} ± {a.std():.1f}" for a in (dense, pruned, coreset, joint, preserved))
            kind = "balanced" if balanced else "global"
            print(f"| {kind} | {rate} | {means} | {line('', joint - lower)} | {line('', preserved - joint)} |")


if __name__ == "__main__":
    main()
