"""The simulated cluster against a measured one: two workers, the segments' own times, within 15 %."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from orchestration.dispatch import Dispatch
from orchestration.launch import Cluster
from orchestration.observer import Observers
from orchestration.sweep import Sweep
from orchestration.views import planned
from sweeps.scheduler import simulate
from sweeps.stages import Segment
from tests.orchestration.grids import tiny

GRID = """
name: simulated
cell:
  data: digits
  model: {name: small_cnn, width: 8}
  epochs: 24
  select_every: 4
  warmup_epochs: 4
  pruner: {name: rigl, update_every: {per_interval: 3}}
  selector: el2n
axes:
  prune_rate: [0, 0.8]
  coreset_ratio: [1, 0.3, 0.2, 0.1]
  seed: [0, 1]
resources: {max_concurrent: 2}
"""
DISPATCH = 0.05
"""Seconds from one cell to the next on a warm worker."""


def measured(sweep: Sweep) -> dict[Segment, float]:
    """The recorded seconds of every segment."""
    found: dict[Segment, float] = {}
    for cell in sweep.cells.cells:
        rows = {int(row["epoch"]): float(row["seconds"]) for row in (sweep.history(cell) or ([], False))[0]}
        for segment in sweep.chains[cell.cell_id]:
            found[segment] = sum(rows[epoch] for epoch in range(segment.first, segment.last + 1))
    return found


def took(sweep: Sweep) -> float:
    """From the start of the first epoch to the end of the last one, by the clock that the rows recorded."""
    rows = [row for cell in sweep.cells.cells for row in (sweep.history(cell) or ([], False))[0]]
    return max(row["time"] for row in rows) - min(row["time"] - row["seconds"] for row in rows)


def apart(folder: Path) -> float:
    """How far the simulation is from a run that is measured here, as a share of the run."""
    sweep, ctrl_c = tiny(folder, GRID), signal.getsignal(signal.SIGINT)
    # What it tells Ray is not for the tests after this one.
    with patch.dict(os.environ), closing(Cluster(None)) as cluster:
        cluster.connect()
        _, run = cluster.machine(sweep, sweep.to_do())
        run(Dispatch(sweep, planned(sweep), sweep.to_do(), Observers(())), sweep.to_do())
    assert sweep.to_do() == ()
    assert signal.getsignal(signal.SIGINT) is ctrl_c  # Tune's own handler is gone: it would swallow the next one
    foretold, real = simulate(sweep.chains, measured(sweep), workers=2, dispatch=DISPATCH).makespan, took(sweep)
    return abs(foretold - real) / real


def test_two_simulated_workers_take_as_long_as_two_real_ones(tmp_path: Path) -> None:
    """Within 15 % in one of three runs: on a machine that others use too, handing out a cell may take a second."""
    assert any(apart(tmp_path / str(attempt)) < 0.15 for attempt in range(3))
