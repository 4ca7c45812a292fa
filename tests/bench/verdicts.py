"""The confirmations of a sweep as a table, and their gaps over runs: is it this run, or the setting?

    swast confirm FOLDER --all
    python -m tests.bench.verdicts FOLDER

Within an event n is the data orders forked from its one checkpoint. The last row takes each event's mean as one value:
n is the events, so their runs (training seeds) are what it speaks about. Percentage points, 95 % t-intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analysis.confirmations import Confirmation, read
from analysis.counterfactual import Estimate, intervals

NAMES = ("weights", "samples", "both", "interaction")


def rows(found: tuple[Confirmation, ...]) -> Iterator[str]:
    """A row per confirmation, then one over all."""
    told = [(one, {**one.verdict.gaps, "interaction": one.verdict.interaction}) for one in found]
    for one, gaps in told:
        numbers = " | ".join(gaps[name].points() for name in NAMES)
        yield f"| {one.event} | {one.label} | {one.verdict.n} | {numbers} | {one.verdict.title} |"
    over = intervals(np.array([[gaps[name].mean for _, gaps in told] for name in NAMES]))
    columns = zip(over.n, over.mean, over.sd, over.lo, over.hi, strict=True)
    numbers = " | ".join(Estimate(int(n), *map(float, rest)).points() for n, *rest in columns)
    yield f"| all events | | {len(told)} | {numbers} | |"


def main() -> None:
    """Print the table."""
    print(f"| event | cell | n | {' | '.join(NAMES)} | verdict |\n|{'---|' * 8}")
    print("\n".join(rows(read(Path(sys.argv[1]))[0])))


if __name__ == "__main__":
    main()
