"""Run one cell along its chain of segments: the one recovery path, for Ray and for this process alike.

Go on from the newest whole checkpoint of the cell's last stage that has one, else from an earlier stage's, else from
the start. A worker that died, a driver that died and a second run of the same file are the same case.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.config import CellConfig
from core.data.bundle import Bundle
from core.measurements import TRAINING_ALONE, Measurements
from core.state import dump, load
from core.trainer import Trainer
from orchestration.files import StoreError
from orchestration.history import history_row
from orchestration.past import is_over, resume_point
from orchestration.store import Store, digest
from sweeps.stages import Segment


@dataclass(frozen=True)
class Progress:
    """A cell after one more epoch; ``stored`` is whether a checkpoint of that epoch was written."""

    row: Mapping[str, Any]
    stored: bool
    finished: bool
    diverged: bool = False


def run_cell(
    cell: CellConfig,
    chain: Sequence[Segment],
    bundle: Bundle,
    store: Store,
    *,
    device: str = "cpu",
    checkpoint_seconds: float = 30.0,
    measurements: Measurements = TRAINING_ALONE,
) -> Generator[Progress, None, None]:
    """Train what the store does not hold yet of ``chain``, an epoch per item; nothing when it holds all.

    A checkpoint is written at every segment's end, at the first epoch end after ``checkpoint_seconds``, and when the
    iterator is closed between two epochs. Raises whatever training raises, and ``StoreError``.
    """
    found = resume_point(chain, store)
    entry = None if found is None else found[0]
    if is_over(chain, entry):
        return
    trainer = Trainer(cell, bundle, device, measurements=measurements)
    if found is not None:
        trainer.restore(load(found[1]))
        if any((segment.stage, segment.last) == (found[0].stage, found[0].epoch) for segment in chain):
            store.keep(found[0])
    for segment in chain:
        if segment.last > trainer.epoch:
            resumes = entry is not None and entry.stage == segment.stage and entry.epoch >= segment.first
            rows = list(entry.rows) if entry is not None and resumes else []
            yield from _run_segment(segment, trainer, store, rows, checkpoint_seconds, chain[-1].last)
            if trainer.diverged:
                return


def _run_segment(
    segment: Segment,
    trainer: Trainer,
    store: Store,
    rows: list[Mapping[str, Any]],
    checkpoint_seconds: float,
    epochs: int,
) -> Generator[Progress, None, None]:
    """Train to the segment's end; its own earlier checkpoints, but the newest two, are dropped on the way."""
    written, own = time.monotonic(), [] if not rows else [int(rows[-1]["epoch"])]
    for epoch in range(trainer.epoch + 1, segment.last + 1):
        rows.append(history_row(list(trainer.events(until=epoch))))
        ends = trainer.diverged or epoch == segment.last
        due = ends or time.monotonic() - written >= checkpoint_seconds
        if due:
            _put(segment.stage, trainer, store, rows, kept=ends)
            own = store.retain(segment.stage, [*own, epoch])
            written = time.monotonic()
        try:
            yield Progress(rows[-1], due, trainer.diverged or epoch == epochs, trainer.diverged)
        except GeneratorExit:
            if not due:
                with suppress(StoreError):  # what cannot be kept is trained again
                    store.put(segment.stage, rows, dump(trainer.state()))
            raise
        if trainer.diverged:
            return


def _put(stage: str, trainer: Trainer, store: Store, rows: list[Mapping[str, Any]], *, kept: bool) -> None:
    """Store a checkpoint. Where another worker's is there with other bits, go on from it: a history has no seams."""
    mine = dump(trainer.state())
    entry = store.put(stage, rows, mine, diverged=trainer.diverged, kept=kept)
    theirs = None if entry.state_digest == digest(mine) else store.state(entry)
    if theirs is not None:
        trainer.restore(load(theirs))
        rows[:] = entry.rows
