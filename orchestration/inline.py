"""Run cells one after another in this process, without ray and mlflow: for debugging, and where neither is at hand."""

from __future__ import annotations

from contextlib import closing

from orchestration import keeping
from orchestration.dispatch import Dispatch


def run_inline(dispatch: Dispatch) -> None:
    """Train every cell. A failed one is recorded with its reason; the others go on. Returns early on the budget."""
    import torch

    keeping.remember(dispatch.sweep)
    threads = torch.get_num_threads()
    try:
        while not dispatch.exhausted and (cell_id := dispatch.next()) is not None:
            _run(dispatch, cell_id)
    finally:
        torch.set_num_threads(threads)


def _run(dispatch: Dispatch, cell_id: str) -> None:
    import torch

    from orchestration.attempt import attempt

    sweep, cell = dispatch.sweep, dispatch.cells[cell_id]
    job = sweep.job(cell)
    torch.set_num_threads(sweep.need(cell.config).threads)
    dispatch.started(cell_id)
    with closing(attempt(job, sweep.bundle(cell.config).to(job.device), sweep.store)) as reports:
        for report in reports:
            dispatch.told(report)
            if (dispatch.exhausted or dispatch.stops(cell_id)) and not report.ended:
                dispatch.returned(cell_id)
                return
