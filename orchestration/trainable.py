"""A cell as a Ray Tune trainable. Actors are reused: the process keeps its data, everything else is the cell's own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from core.config import from_dict
from core.data.bundle import Bundle
from orchestration.inline import reason_of
from orchestration.runner import Progress, run_cell
from orchestration.store import Store
from orchestration.sweep import source_key
from sweeps.stages import Segment

MIN_STEP_SECONDS = 1.0
"""One result holds at least this much training: the driver takes some hundred results a second, from all workers."""


@dataclass(frozen=True)
class Work:
    """What every worker gets once, through the object store."""

    cells: Mapping[str, Mapping[str, Any]]
    """The configuration of each cell to run, as plain data, by cell_id."""
    chains: Mapping[str, tuple[Segment, ...]]
    bundles: Mapping[str, Bundle]
    store: Path
    device: str
    threads: int
    checkpoint_seconds: float


class CellTrainable(tune.Trainable):
    """Runs one cell per trial; ``config`` holds its ``cell_id``. Results and checkpoints go to the sweep's store."""

    _last: Progress | None
    _stored: int

    def setup(self, config: dict[str, Any], work: Work) -> None:  # type: ignore[override]
        """Called once per actor."""
        import torch

        torch.set_num_threads(work.threads)
        self._work = work
        self._on_device: dict[str, Bundle] = {}
        self._begin(config["cell_id"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called when the actor is handed its next cell."""
        self._begin(new_config["cell_id"])
        return True

    def step(self) -> dict[str, Any]:
        """Train for ``MIN_STEP_SECONDS`` or more, or to the end. An error of the cell is a result, not a crash."""
        deadline = time.monotonic() + MIN_STEP_SECONDS
        try:
            for progress in self._steps:
                self._last = progress
                self._stored = progress.row["epoch"] if progress.stored else self._stored
                if progress.finished or time.monotonic() >= deadline:
                    return self._result(done=progress.finished)
        except Exception as error:
            reason = reason_of(error)
            self._store.fail(self._cell_id, reason, traceback.format_exc())
            return {"cell_id": self._cell_id, "failed": reason, "done": True}
        return self._result(done=True)

    def _begin(self, cell_id: str) -> None:
        self._cell_id, self._store = cell_id, Store(self._work.store)
        self._last = None
        self._stored = 0
        self._steps: Iterator[Progress] = self._train(cell_id)

    def _train(self, cell_id: str) -> Iterator[Progress]:
        """Begins when ``step`` asks, so that an error in setting up is the cell's and not the worker's."""
        work = self._work
        cell = from_dict(work.cells[cell_id])
        yield from run_cell(
            cell,
            work.chains[cell_id],
            self._bundle(source_key(cell)),
            self._store,
            device=work.device,
            checkpoint_seconds=work.checkpoint_seconds,
        )

    def _bundle(self, key: str) -> Bundle:
        if key not in self._on_device:
            self._on_device[key] = self._work.bundles[key].to(self._work.device)
        return self._on_device[key]

    def _result(self, *, done: bool) -> dict[str, Any]:
        result: dict[str, Any] = {"cell_id": self._cell_id, "done": done}
        if self._last is not None:
            row = self._last.row
            result |= {"epoch": row["epoch"], "accuracy_test": row["accuracy_test"], "stored": self._stored}
            result |= {"accuracy_val": row["accuracy_val"]}
        return result
