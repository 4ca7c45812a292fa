"""Run cells one after another in this process, without ray and mlflow: for debugging, and where neither is at hand."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from orchestration.observer import Observer, Report
from orchestration.runner import run_cell
from orchestration.sweep import Sweep
from sweeps.cells import Cell


def run_inline(sweep: Sweep, cells: Iterable[Cell], observer: Observer) -> None:
    """Train the cells in order. A failed cell is recorded with its reason; the others go on."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(sweep.threads)
    try:
        for cell in cells:
            _run(sweep, cell, observer)
    finally:
        torch.set_num_threads(threads)


def _run(sweep: Sweep, cell: Cell, observer: Observer) -> None:
    observer.started(cell.cell_id)
    stored = 0
    try:
        steps = run_cell(
            cell.config,
            sweep.chains[cell.cell_id],
            sweep.bundle(cell.config).to(sweep.device),
            sweep.store,
            device=sweep.device,
            checkpoint_seconds=sweep.spec.checkpoint_seconds,
        )
        for step in steps:
            stored = step.row["epoch"] if step.stored else stored
            observer.progressed(report(cell.cell_id, step.row, stored))
    except Exception as error:
        reason = reason_of(error)
        sweep.store.fail(cell.cell_id, reason, traceback.format_exc())
        observer.failed(cell.cell_id, reason)
    else:
        sweep.store.forget_failure(cell.cell_id)
        observer.finished(cell.cell_id)


def report(cell_id: str, row: Mapping[str, Any], stored: int) -> Report:
    """The live table's view of a history row."""
    return Report(cell_id, int(row["epoch"]), row["accuracy_val"], row["accuracy_test"], stored)


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
