"""One worker's attempt at a cell, as reports: the same in this process and on a cluster."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from core.data.bundle import Bundle
from orchestration.job import Job
from orchestration.observer import Ending, Report
from orchestration.past import rows_so_far
from orchestration.runner import Progress, run_cell
from orchestration.store import EARLY_STOPPING, Store


def attempt(job: Job, bundle: Bundle, store: Store) -> Generator[Report, None, None]:
    """Train what the store does not hold yet, a report per epoch; the last one says how it ended.

    An error of the cell is a report too, and is kept in the store with its traceback.
    """
    report = Report(job.cell_id)
    try:
        rows = [] if job.rule is None else list(rows_so_far(job.chain, store))
        reason = _stop(job, rows)
        if reason is not None:
            yield _stopped(job, report, reason, store)
            return
        steps = run_cell(
            job.cell,
            job.chain,
            bundle,
            store,
            device=job.device,
            checkpoint_seconds=job.checkpoint_seconds,
            measurements=job.measurements,
        )
        with closing(steps):
            for progress in steps:
                rows.append(progress.row)
                report = _after(report, progress)
                reason = None if report.ended else _stop(job, rows)
                if reason is not None:
                    break
                yield report
        if reason is not None:
            yield _stopped(job, replace(report, stored=report.epoch), reason, store)
        elif not report.ended:  # there was nothing left to train
            last = job.chain[-1].last
            yield replace(report, epoch=last, stored=last, ended="finished")
    except Exception as error:
        reason = reason_of(error)
        store.fail(job.cell_id, reason, traceback.format_exc())
        yield replace(report, ended="out of memory" if _out_of_memory(error) else "failed", reason=reason)


def _stop(job: Job, rows: list[Mapping[str, Any]]) -> str | None:
    return None if job.rule is None else job.rule.verdict(rows)


def _stopped(job: Job, report: Report, reason: str, store: Store) -> Report:
    store.fail(report.cell_id, reason, "", stopped=EARLY_STOPPING, stage=job.chain[-1].stage)
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
