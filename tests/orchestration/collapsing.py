"""A small sweep of real training that collapses: digits, global EL2N at 0.1, RigL at 0.9, as in BENCHMARKS.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.sweep import Sweep, prepare
from sweeps.cells import joint
from sweeps.spec import parse
from tests.orchestration.grids import run

GRID = """
name: collapsing
cell:
  data: digits
  epochs: 40
  warmup_epochs: 5
  select_every: 5
  pruner: {name: rigl, update_every: {per_interval: 5}}
  selector: el2n
axes: {prune_rate: [0.9], coreset_ratio: [0.1], seed: [0]}
checkpoint_seconds: 0
support_samples: 0
"""
SWITCH, HORIZON = 20, 30
"""Where the joint cell of seed 0 falls by 14 points, and by when it has not recovered."""


def collapsing(output: Path, store: Path | None = None, *overrides: str) -> Sweep:
    return prepare(parse(GRID, overrides=overrides), output, store=store)


def joint_id(sweep: Sweep) -> str:
    return next(cell.cell_id for cell in sweep.cells.cells if joint(cell.config))


def without_joint(finished: Sweep, place: Path, *overrides: str) -> Sweep:
    """The sweep with its controls trained and the joint cell to do, in a store of its own."""
    sweep = collapsing(place, None, *overrides)
    for name in finished.store.files.names("segments"):
        for stage in finished.store.files.names(f"segments/{name}"):
            if stage != finished.chains[joint_id(finished)][-1].stage:
                for epoch in finished.store.epochs(stage):
                    entry = finished.store.entry(stage, epoch)
                    assert entry is not None
                    state = finished.store.state(entry)
                    assert state is not None
                    sweep.store.put(stage, entry.rows, state, diverged=entry.diverged, kept=entry.kept)
    return sweep


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The sweep with all its cells trained. Others may use its store, but write nowhere into its folder."""
    return run(collapsing(tmp_path_factory.mktemp("collapsing")))
