"""What the store holds of a cell along its chain: its rows, whether it is finished, where it goes on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.store import Entry, Failure, Store
from sweeps.stages import Segment


def resume_point(chain: Sequence[Segment], store: Store, until: int = sys.maxsize) -> tuple[Entry, bytes] | None:
    """The newest entry along the chain, after epoch ``until`` at the latest, with a whole checkpoint and history."""
    for segment in reversed(chain):
        for entry in store.entries(segment.stage, segment.first, min(segment.last, until)):
            if history_until(chain, store, entry) is not None:
                state = store.state(entry)
                if state is not None:
                    return entry, state
    return None


def is_over(chain: Sequence[Segment], entry: Entry | None) -> bool:
    """Whether a cell whose newest entry this is has nothing left to train."""
    return entry is not None and (entry.diverged or entry.epoch == chain[-1].last)


def finished_rows(chain: Sequence[Segment], store: Store) -> tuple[list[Mapping[str, Any]], bool] | None:
    """The history of a finished cell along its chain and whether it diverged; ``None`` when it is not finished."""
    last = store.entry(chain[-1].stage, chain[-1].last)
    if last is None:
        last = _newest(chain, store)
    if last is None or not is_over(chain, last):
        return None
    rows = history_until(chain, store, last)
    return None if rows is None else (rows, last.diverged)


def failure(
    chain: Sequence[Segment], cell_id: str, reason: str, *, detail: str = "", rule: str = "", epoch: int | None = None
) -> Failure:
    """A failure of the cell after ``epoch``, the last that it has trained: where its rows are follows."""
    stage = next((s.stage for s in chain if epoch is not None and s.first <= epoch <= s.last), "")
    return Failure(cell_id, reason, detail, rule, epoch if stage else None, stage)


def rows_so_far(chain: Sequence[Segment], store: Store) -> list[Mapping[str, Any]]:
    """The history of a cell along its chain as far as the store holds it."""
    newest = _newest(chain, store)
    return [] if newest is None else history_until(chain, store, newest) or []


def _newest(chain: Sequence[Segment], store: Store) -> Entry | None:
    entries = (entry for s in reversed(chain) for entry in store.entries(s.stage, s.first, s.last))
    return next(entries, None)


def history_until(chain: Sequence[Segment], store: Store, entry: Entry) -> list[Mapping[str, Any]] | None:
    """The rows of epochs 1 to ``entry.epoch``; ``None`` when some are missing. An entry knows where its rows begin."""
    parts = [entry.rows]
    while entry.first > 1:
        before = entry.first - 1
        stage = next(segment.stage for segment in chain if segment.first <= before <= segment.last)
        found = store.entry(stage, before)
        if found is None:
            return None
        entry = found
        parts.append(entry.rows)
    return [row for rows in reversed(parts) for row in rows]
