"""One worker's attempt at a cell, as reports: the same in this process and on a cluster."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from core.data.bundle import Bundle
from orchestration.files import StoreError
from orchestration.job import Job
from orchestration.observer import Ending, Report
from orchestration.past import failure, rows_so_far
from orchestration.runner import Progress, run_cell
from orchestration.store import EARLY_STOPPING, Store


def attempt(job: Job, data: Callable[[], Bundle], store: Store) -> Generator[Report, None, None]:
    """Train what the store does not hold yet, a report per epoch; the last one says how it ended.

    ``data`` puts the cell's data set onto its device. An error of the cell, there too, is a report, and is kept in the
    store with its traceback.
    """
    report = Report(job.cell_id)
    try:
        rows = [] if job.rule is None else list(rows_so_far(job.chain, store))
        stop = _stop(job, rows)
        if stop is not None:
            yield _stopped(job, report, stop, store)
            return
        steps = run_cell(
            job.cell,
            job.chain,
            data(),
            store,
            device=job.device,
            checkpoint_seconds=job.checkpoint_seconds,
            measurements=job.measurements,
        )
        with closing(steps):
            for progress in steps:
                rows.append(progress.row)
                report = _after(report, progress)
                stop = None if report.ended else _stop(job, rows)
                if stop is not None:
                    break
                yield report
        if stop is not None:
            yield _stopped(job, replace(report, stored=report.epoch), stop, store)
        elif not report.ended:  # there was nothing left to train
            last = job.chain[-1].last
            yield replace(report, epoch=last, stored=last, ended="finished")
    except Exception as error:
        reason = reason_of(error)
        now = failure(job.chain, job.cell_id, reason, detail=traceback.format_exc(), epoch=_reached(job, store))
        store.fail(job.chain[-1].stage, now)
        yield replace(report, ended="out of memory" if _out_of_memory(error) else "failed", reason=reason)


def _reached(job: Job, store: Store) -> int | None:
    """The cell's last epoch in the store; ``None`` where it holds none, or cannot say."""
    with suppress(StoreError):
        rows = rows_so_far(job.chain, store)
        return int(rows[-1]["epoch"]) if rows else None
    return None


def _stop(job: Job, rows: list[Mapping[str, Any]]) -> tuple[int, str] | None:
    return None if job.rule is None else job.rule.verdict(rows)


def _stopped(job: Job, report: Report, stop: tuple[int, str], store: Store) -> Report:
    """Stopped where it would have been by itself: of a trunk, others may have trained more by now."""
    epoch, reason = stop
    now = failure(job.chain, job.cell_id, reason, rule=EARLY_STOPPING, epoch=epoch)
    store.fail(job.chain[-1].stage, now)
    return replace(report, ended="stopped", reason=reason)


def _after(report: Report, progress: Progress) -> Report:
    row = progress.row
    ended: Ending = "diverged" if progress.diverged else "finished" if progress.finished else ""
    return replace(
        report,
        epoch=int(row["epoch"]),
        accuracy_val=row["accuracy_val"],
        accuracy_test=row["accuracy_test"],
        stored=int(row["epoch"]) if progress.stored else report.stored,
        flop=report.flop + row["flops_dense"] + row["flops_evaluation"],
        ended=ended,
    )


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)
