"""Branches: joint cells that collapsed, trained once more from before the switch, with state preservation from there.

A branch is a cell like any other: it has the chain of the cell that it branches off up to the switch, so it goes on
from that one's newest checkpoint before it, and what is lost in between is trained again to the same bits. Which
branches there are follows from the histories of the finished cells alone: after a kill they are the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.collapse import collapse_events
from analysis.dips import Detection
from analysis.events import Event
from analysis.runs import validate_history, validate_runs
from core.config import canonical, cell_id
from core.preservation import PRESERVERS
from orchestration.sweep import Sweep
from orchestration.tables import tables
from sweeps.cells import Cell

PRESERVED = PRESERVERS["complete"]()
"""What a branch preserves: the paper's choice."""


def branched(sweep: Sweep) -> Sweep:
    """The sweep with the branches that its grid wants; itself before every cell is finished, or given up."""
    if sweep.spec.on_collapse != "branch_with_preservation":
        return sweep
    if any(sweep.failure(cell.cell_id) is None for cell in sweep.to_do()):
        return sweep
    return sweep.with_branches(tuple(_branches(sweep)))


def _branches(sweep: Sweep) -> Iterator[Cell]:
    first = _first_losses(sweep)
    for cell in sweep.cells.cells:
        event = first.get(cell.cell_id)
        if event is not None and cell.config.preservation.name == "none":
            config = canonical(replace(cell.config, preservation=PRESERVED, preservation_from=event.epoch))
            yield Cell(cell_id(config), config, 0, branched_from=event.event_id)


def _first_losses(sweep: Sweep) -> dict[str, Event]:
    """By cell_id the earliest irreversible loss of a cell that finished."""
    runs, history = tables(sweep)
    if runs.empty or history.empty:
        return {}
    found: dict[str, Event] = {}
    finished = set(runs.loc[runs["status"] == "finished", "cell_id"])
    settings = Detection(select_every=sweep.select_every)
    for event in collapse_events(validate_runs(runs), validate_history(history), settings):
        known = found.get(event.cell_id)
        if event.irreversible and event.cell_id in finished and (known is None or event.epoch < known.epoch):
            found[event.cell_id] = event
    return found
