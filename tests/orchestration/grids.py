"""Small sweeps for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.events import Event
from orchestration.dispatch import Dispatch
from orchestration.inline import run_inline
from orchestration.observer import Observer, Observers, Report
from orchestration.sweep import Sweep, prepare
from sweeps.cells import Cell
from sweeps.plan import make_plan
from sweeps.spec import parse

TINY = """
name: tiny
cell:
  data: {name: synthetic, samples: 160, test_samples: 40, classes: 4, size: 8}
  model: {name: small_cnn, width: 4}
  epochs: 6
  select_every: 2
  warmup_epochs: 1
  batch_size: 32
  pruner: {name: rigl, update_every: {per_interval: 3}}
axes:
  prune_rate: [0, 0.8]
  coreset_ratio: [1, 0.25]
  selector: [el2n, gradmatch]
  seed: [0, 1]
checkpoint_seconds: 0
"""
BROKEN = TINY + "cells: [{}, {lr: 1.0e+12}]\n"

TIMES = ["seconds", "seconds_select", "seconds_prune"]


def tiny(output: Path, text: str = TINY, *overrides: str) -> Sweep:
    return prepare(parse(text, overrides=overrides), output)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.reports: list[Report] = []
        self.events: dict[str, tuple[Event, ...]] = {}

    def started(self, cell_id: str) -> None:
        self.calls.append(("started", cell_id))

    def progressed(self, report: Report) -> None:
        self.reports.append(report)

    def finished(self, cell_id: str) -> None:
        self.calls.append(("finished", cell_id))

    def retried(self, cell_id: str, reason: str) -> None:
        self.calls.append(("retried", cell_id))

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        self.calls.append(("failed", cell_id))

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        self.events[cell_id] = events


def dispatch(sweep: Sweep, observer: Observer = Observers(())) -> Dispatch:  # noqa: B008 (a frozen value)
    todo = sweep.to_do()
    finished = {cell.cell_id for cell in sweep.cells.cells} - {cell.cell_id for cell in todo}
    plan = make_plan(sweep.spec, finished, sweep.chains, sweep.done(todo), sweep.cells)
    return Dispatch(sweep, plan, todo, observer)


def run(sweep: Sweep, observer: Observer = Observers(())) -> Sweep:  # noqa: B008 (a frozen value)
    run_inline(dispatch(sweep, observer))
    return sweep


def final_state(sweep: Sweep, cell: Cell) -> bytes:
    """The checkpoint after the cell's last epoch."""
    last = sweep.chains[cell.cell_id][-1]
    entry = sweep.store.entry(last.stage, last.last)
    assert entry is not None
    state = sweep.store.state(entry)
    assert state is not None
    return state


def timeless(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without its wall-clock columns."""
    return frame.drop(columns=[name for name in TIMES if name in frame])
