"""Run one cell along its chain of segments: the one recovery path, for Ray and for this process alike.

Go on after the last whole segment: from its successor's newest checkpoint, else from its own, else from the start.
A worker that died, a driver that died and a second run of the same file are the same case.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.config import CellConfig
from core.data.bundle import Bundle
from core.events import Diverged
from core.state import dump, load
from core.trainer import Trainer
from orchestration.history import history_row
from orchestration.store import Entry, Store
from sweeps.stages import Segment


@dataclass(frozen=True)
class Progress:
    """A cell after one more epoch; ``stored`` is whether a checkpoint of that epoch was written."""

    row: Mapping[str, Any]
    stored: bool
    finished: bool


def run_cell(
    cell: CellConfig,
    chain: Sequence[Segment],
    bundle: Bundle,
    store: Store,
    *,
    device: str = "cpu",
    checkpoint_seconds: float = 30.0,
) -> Iterator[Progress]:
    """Train what the store does not hold yet of ``chain``, an epoch per item; nothing when it holds all.

    A checkpoint is written at every segment's end and at the first epoch end after ``checkpoint_seconds``.
    Raises whatever training raises, and ``StoreError``.
    """
    position, found = resume_point(chain, store)
    entry = None if found is None else found[0]
    if is_over(chain, entry):
        return
    trainer = Trainer(cell, bundle, device)
    if found is not None:
        trainer.restore(load(found[1]))
    for segment in chain[position:]:
        rows = list(entry.rows) if entry is not None and entry.key == segment.key else []
        written = time.monotonic()
        for epoch in range(trainer.epoch + 1, segment.last + 1):
            events = list(trainer.events(until=epoch))
            rows.append(history_row(events))
            diverged = isinstance(events[-1], Diverged)
            due = epoch == segment.last or diverged or time.monotonic() - written >= checkpoint_seconds
            if due:
                store.put(segment.key, rows, dump(trainer.state()), diverged=diverged)
                written = time.monotonic()
            finished = diverged or epoch == chain[-1].last
            yield Progress(rows[-1], due, finished)
            if diverged:
                return


def resume_point(chain: Sequence[Segment], store: Store) -> tuple[int, tuple[Entry, bytes] | None]:
    """The first segment that is not whole, and what to restore: its own newest checkpoint, else its trunk's last."""
    trunk: tuple[Entry, bytes] | None = None
    for position, segment in enumerate(chain):
        found = store.newest(segment)
        if found is None:
            return position, trunk
        if found[0].diverged or found[0].epoch != segment.last:
            return position, found
        trunk = found
    return len(chain) - 1, trunk


def is_over(chain: Sequence[Segment], entry: Entry | None) -> bool:
    """Whether a cell whose newest entry this is has nothing left to train."""
    return entry is not None and (entry.diverged or entry.epoch == chain[-1].last)


def finished_rows(chain: Sequence[Segment], store: Store) -> tuple[list[Mapping[str, Any]], bool] | None:
    """The history of a finished cell along its chain and whether it diverged; ``None`` when it is not finished."""
    rows: list[Mapping[str, Any]] = []
    for segment in chain:
        entry = store.rows(segment)
        if entry is None or (entry.epoch != segment.last and not entry.diverged):
            return None
        rows += entry.rows
        if entry.diverged:
            return rows, True
    return rows, False


def rows_so_far(chain: Sequence[Segment], store: Store) -> list[Mapping[str, Any]]:
    """The history of a cell along its chain as far as the store holds it."""
    rows: list[Mapping[str, Any]] = []
    for segment in chain:
        entry = store.rows(segment)
        rows += [] if entry is None else entry.rows
        if entry is None or entry.epoch != segment.last:
            break
    return rows
