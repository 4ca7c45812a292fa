"""Does the frontier search find the full grid's frontier with part of its cells, and does it beat random spending?

    swast run sweeps/grids/frontier.yaml --set frontier=null --set 'axes.seed=[4,5,6]' --set name=full-4   # and so on
    python tests/bench/frontier.py outputs/full-4 outputs/full-7 ...

Every folder is a fully trained grid with seeds of its own: one repetition. Nothing is trained here: the search's own
choice function (``sweeps.frontier.choose``, one cell at a time) and random spending are shown the table's outcomes as
they ask for them, and both pay for the controls that they need. Both choose and are told by VALIDATION accuracy; the
frontiers that are compared are those of ``analysis.frontier`` on TEST accuracy: of the cells bought, and of all cells.

Distance: of alpha*(p) between the two, in steps of the grid, the largest over the prune rates (the mean in brackets).
A frontier beyond the ratios counts as one step beyond. Two budgets: 30 % of all cells, controls included (what
``budget_cells`` means), and 30 % of the joint cells with whatever controls they need.

Columns: the search; the search with 20 other seeds for its ties, the only thing that is random in it; 100 random
spendings. Of these the median, and the share that stays within a step. Last, the share of random spendings whose
distance is larger than the search's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from analysis.frontier import indicators
from analysis.inference import Floats
from analysis.logistic import Plane, fit
from analysis.runs import load_runs
from core.rounding import count
from sweeps.frontier import Candidate, Space, choose

BUDGET, RANDOM, SEARCHES = 0.3, 100, 20
Chooser: TypeAlias = Callable[[Space, Mapping[str, bool | None], np.random.Generator], Candidate | None]


@dataclass(frozen=True)
class Table:
    """A grid that is known as a whole: its cells, whether each seed collapsed on validation, and on test."""

    space: Space
    cells: int
    validation: Mapping[str, bool | None]
    test: Mapping[str, bool | None]
    most: int = sys.maxsize
    """Joint cells that may be bought, beside the space's budget of cells."""


def table_of(runs: pd.DataFrame, budget: float) -> Table:
    """The joint cells of a validated runs table of one facet."""
    pruned, reduced = runs["pruner"] != "none", runs["coreset_ratio"] < 1
    ids = {
        (row.prune_rate if row.pruner != "none" else 0.0, row.coreset_ratio, row.seed): row.cell_id
        for row in runs.itertuples()
    }
    joint = [
        Candidate(
            row.cell_id,
            0,
            row.prune_rate,
            row.coreset_ratio,
            row.seed,
            frozenset(
                {
                    row.cell_id,
                    ids[0.0, 1.0, row.seed],
                    ids[row.prune_rate, 1.0, row.seed],
                    ids[0.0, row.coreset_ratio, row.seed],
                }
            ),
        )
        for row in runs[pruned & reduced].itertuples()
    ]
    told = (_outcomes(runs, joint), _outcomes(runs.assign(accuracy_test=runs["accuracy_val"]), joint))
    return Table(Space(tuple(joint), count(budget, len(runs))), len(runs), told[1], told[0])


def _outcomes(runs: pd.DataFrame, joint: Sequence[Candidate]) -> dict[str, bool | None]:
    found = indicators(runs)
    place = {
        (rate, ratio): i for i, (rate, ratio) in enumerate(found.cells[["prune_rate", "coreset_ratio"]].to_numpy())
    }
    column = {seed: j for j, seed in enumerate(found.seeds)}
    values = {
        c.cell_id: found.collapsed_CS[place[round(c.prune_rate, 9), round(c.coreset_ratio, 9)], column[c.seed]]
        for c in joint
    }
    return {cell_id: None if np.isnan(value) else bool(value) for cell_id, value in values.items()}


def search(space: Space, outcomes: Mapping[str, bool | None], rng: np.random.Generator) -> Candidate | None:
    """The search's choice, one cell at a time."""
    return choose(space, outcomes, (), rng)


def random(space: Space, outcomes: Mapping[str, bool | None], rng: np.random.Generator) -> Candidate | None:
    """Any joint cell that the budget lasts for."""
    left = space.affordable(set(outcomes))
    return left[int(rng.integers(len(left)))] if left else None


def spend(table: Table, chooser: Chooser, rng: np.random.Generator) -> list[str]:
    """The joint cells that a chooser buys, in order, until the budget lasts for none or ``most`` are bought."""
    outcomes: dict[str, bool | None] = {}
    while len(outcomes) < table.most and (found := chooser(table.space, outcomes, rng)) is not None:
        outcomes[found.cell_id] = table.validation[found.cell_id]
    return list(outcomes)


def log_alpha(table: Table, bought: Collection[str]) -> Floats:
    """ln alpha* by prune rate, from the test outcomes of these cells."""
    known = [c for c in table.space.candidates if c.cell_id in bought and table.test[c.cell_id] is not None]
    grid = table.space.candidates
    plane = Plane(*(tuple(sorted({getattr(c, name) for c in grid})) for name in ("prune_rate", "coreset_ratio")))
    terms = plane.terms([c.prune_rate for c in known], [c.coreset_ratio for c in known])
    collapsed = np.array([[float(bool(table.test[c.cell_id])) for c in known]])
    return plane.log_frontier(fit(terms, collapsed, np.ones_like(collapsed), plane.spread))[0]


def steps(table: Table, log_alpha_R: Floats) -> Floats:
    """ln alpha* as a place among the grid's ratios, in steps."""
    logs = np.log(sorted({c.coreset_ratio for c in table.space.candidates}))
    ends = np.concatenate([[2 * logs[0] - logs[1]], logs, [2 * logs[-1] - logs[-2]]])
    return np.interp(log_alpha_R, ends, np.arange(len(ends)))


def distances(table: Table, bought: Collection[str]) -> Floats:
    """Between the frontier of these cells and that of all, in steps of the grid, by prune rate."""
    whole = log_alpha(table, [c.cell_id for c in table.space.candidates])
    return np.abs(steps(table, log_alpha(table, bought)) - steps(table, whole))


@dataclass(frozen=True)
class Result:
    """One repetition: the search beside many random spendings of the same budget."""

    joint: int
    cells: int
    search: Floats
    again: Floats
    """The search with other seeds for its ties: (searches, prune rates)."""
    random: Floats
    """(draws, prune rates)."""

    @property
    def beaten(self) -> float:
        """Share of the random spendings whose largest distance is larger."""
        return float((self.random.max(axis=1) > self.search.max()).mean())


def repetition(table: Table, seed: int, draws: int = RANDOM, searches: int = 1) -> Result:
    """The search, and ``searches`` times with other ties; random spending ``draws`` times."""
    bought = spend(table, search, np.random.default_rng(seed))

    def repeated(chooser: Chooser, times: int) -> Floats:
        spent = (spend(table, chooser, np.random.default_rng((seed, time))) for time in range(times))
        return np.stack([distances(table, one) for one in spent])

    found = distances(table, bought)
    cells = len(table.space.spent(bought))
    return Result(len(bought), cells, found, repeated(search, searches), repeated(random, draws))


def main() -> None:
    """Print both tables."""
    print("| seeds | cells | joint | search | other ties | random | beaten |")
    print("|---|---|---|---|---|---|---|")
    for number, folder in enumerate(sys.argv[1:]):
        runs = load_runs(Path(folder))
        seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
        strict, lenient = table_of(runs, BUDGET), table_of(runs, 1.0)
        lenient = replace(lenient, most=count(BUDGET, len(lenient.space.candidates)))
        for table in (strict, lenient):
            print(f"| {seeds} | {' | '.join(row(table, repetition(table, number, RANDOM, SEARCHES)))} |")


def row(table: Table, found: Result) -> Iterator[str]:
    """Cells of all and joint; distances, and how many are within a step."""
    yield f"{found.cells} of {table.cells}"
    yield f"{found.joint} of {len(table.space.candidates)}"
    yield f"{found.search.max():.2f} ({found.search.mean():.2f})"
    for many in (found.again, found.random):
        worst = many.max(axis=1)
        yield f"{np.median(worst):.2f} ({np.median(many.mean(axis=1)):.2f}), {(worst <= 1).mean():.0%}"
    yield f"{found.beaten:.0%}"


if __name__ == "__main__":
    main()
