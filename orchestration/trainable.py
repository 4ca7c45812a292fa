"""A cell as a Ray Tune trainable. Actors are reused: the process keeps its data, everything else is the cell's own."""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef, tune

from core.data.bundle import Bundle
from orchestration.job import Job
from orchestration.observer import Report
from orchestration.packing import unpacked
from orchestration.past import failure
from orchestration.store import Store
from orchestration.watchdog import Watchdog

MIN_STEP_SECONDS = 1.0
"""One result holds at least this much training: the driver takes some hundred results a second, from all workers."""


@dataclass(frozen=True)
class Work:
    """What every node gets once, through the object store."""

    jobs: Mapping[str, Job]
    """By cell_id."""
    sources: Mapping[str, str]
    """The key of each cell's data set."""
    bundles: Mapping[str, ObjectRef[Bundle]]
    """Data sets as arrays (``packed``) in the object store, which the workers of a node map instead of copying."""
    store: str
    epoch_timeout: float
    threads: Mapping[str, int]
    gpus: Mapping[str, float]


class CellTrainable(tune.Trainable):
    """Runs one cell per trial: results and checkpoints go to the sweep's store.

    ``config`` holds the ``cell_id``, and whether the cell has a ``whole`` device.
    """

    def setup(self, config: dict[str, Any], work: Work) -> None:  # type: ignore[override]
        """Called once per actor."""
        atexit.register(gc.freeze)  # as in the driver: Python's last search for cycles takes a second of the end
        self._work = work
        self._bundles: dict[tuple[str, str], Bundle] = {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called when the actor is handed its next cell."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for ``MIN_STEP_SECONDS`` or more, to where other cells may branch off, or to the end."""
        deadline = time.monotonic() + MIN_STEP_SECONDS
        with Watchdog(self._work.epoch_timeout, self._hung) as watchdog:
            for report in self._reports:
                watchdog.rearm()
                self._report = report
                branches = report.epoch == report.stored and report.stored in self._branches
                if report.ended or branches or time.monotonic() >= deadline:
                    break
        return {**vars(self._report), "done": bool(self._report.ended)}

    def cleanup(self) -> None:
        """Called when the actor is ended, in the middle of a cell too: its last epoch is kept."""
        self._close()

    def _begin(self, config: dict[str, Any]) -> None:
        import torch

        self._close()
        work, cell_id = self._work, config["cell_id"]
        job = work.jobs[cell_id]
        torch.set_num_threads(work.threads[cell_id])
        if job.device == "cuda":
            torch.cuda.empty_cache()
            share = 1.0 if config["whole"] else min(1.0, work.gpus[cell_id])
            torch.cuda.set_per_process_memory_fraction(share)
        self._report, self._chain = Report(cell_id), job.chain
        self._store = Store(work.store)
        self._branches = {segment.last for segment in job.chain[:-1]}
        self._reports: Generator[Report, None, None] = self._train(job)

    def _train(self, job: Job) -> Generator[Report, None, None]:
        """Begins when ``step`` asks, so that an error in setting up is the cell's and not the worker's."""
        from orchestration.attempt import attempt  # torch comes along, for workers alone

        yield from attempt(job, lambda: self._bundle(job), self._store)

    def _close(self) -> None:
        reports = getattr(self, "_reports", None)
        if reports is not None:
            reports.close()

    def _hung(self, traceback: str) -> None:
        limit = f"{self._work.epoch_timeout:g} s (epoch_timeout)"
        reason, epoch = f"no epoch ended within {limit}", self._report.epoch or None
        now = failure(self._chain, self._report.cell_id, reason, detail=traceback, epoch=epoch)
        self._store.fail(self._chain[-1].stage, now)

    def _bundle(self, job: Job) -> Bundle:
        key = (self._work.sources[job.cell_id], job.device)
        if key not in self._bundles:  # one at a time: a device has better use for its memory
            self._bundles.clear()
            self._bundles[key] = unpacked(ray.get(self._work.bundles[key[0]])).to(job.device)
        return self._bundles[key]
