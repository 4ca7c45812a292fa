"""How fast a sweep runs where some of it has run: seconds per FLOP, per optimizer step and per epoch."""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.past import rows_so_far
from orchestration.sweep import Sweep
from sweeps.plan import Plan
from sweeps.sharing import Pace

FEWEST = 20
"""Epochs below which nothing is foretold."""


def pace(sweep: Sweep, plan: Plan) -> Pace | None:
    """Non-negative least squares over the epochs that the store holds; ``None`` when they are too few."""
    import numpy as np
    from scipy.optimize import nnls

    samples = list(_epochs(sweep, plan))
    if len(samples) < FEWEST:
        return None
    table = np.array(samples, dtype=np.float64)
    features, seconds = table[:, :3], table[:, 3]
    scale = np.maximum(features.max(axis=0), 1e-30)
    found = nnls(features / scale, seconds)[0] / scale
    return Pace(float(found[0]), float(found[1]), float(found[2]))


def _epochs(sweep: Sweep, plan: Plan) -> Iterator[tuple[float, float, float, float]]:
    """FLOP, steps, one, and seconds of every stored epoch, each once."""
    works, seen = plan.works(), set[tuple[str, int]]()
    for cell in sweep.cells.cells:
        work, chain = works[cell.cell_id], sweep.chains[cell.cell_id]
        for row in rows_so_far(chain, sweep.store):
            epoch = int(row["epoch"])
            stage = next(s.stage for s in chain if s.first <= epoch <= s.last)
            if (stage, epoch) not in seen:
                seen.add((stage, epoch))
                flop = work.flop[epoch] - work.flop[epoch - 1]
                yield flop, float(work.steps[epoch] - work.steps[epoch - 1]), 1.0, float(row["seconds"])
