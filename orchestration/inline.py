"""Run cells one after another in this process, without ray and mlflow: for debugging, and where neither is at hand."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from orchestration import keeping
from orchestration.dispatch import Dispatch
from orchestration.errors import UsageError
from orchestration.sweep import Sweep
from orchestration.threads import torch_threads
from sweeps.cells import Cell


def check_devices(sweep: Sweep, cells: Iterable[Cell]) -> None:
    """Raises ``UsageError`` where a cell is to train on a GPU and this process has none."""
    import torch

    wanted = max((sweep.need(cell.config).gpus for cell in cells), default=0.0)
    if wanted and not torch.cuda.is_available():
        raise UsageError(
            f"a cell needs {wanted:g} GPU and torch finds none here; set resources.gpus to 0, or run where one is"
        )


def run_inline(dispatch: Dispatch) -> None:
    """Train every cell. A failed one is recorded with its reason; the others go on. Returns early on the budget."""
    keeping.remember(dispatch.sweep)
    while not dispatch.exhausted and (cell_id := dispatch.next()) is not None:
        with torch_threads(dispatch.sweep.need(dispatch.cells[cell_id].config).threads):
            _run(dispatch, cell_id)


def _run(dispatch: Dispatch, cell_id: str) -> None:
    from orchestration.attempt import attempt

    sweep, cell = dispatch.sweep, dispatch.cells[cell_id]
    job = sweep.job(cell)
    dispatch.started(cell_id)
    with closing(attempt(job, lambda: sweep.bundle(cell.config).to(job.device), sweep.store)) as reports:
        for report in reports:
            dispatch.told(report)
            if (dispatch.exhausted or dispatch.stops(cell_id)) and not report.ended:
                dispatch.returned(cell_id)
                return
