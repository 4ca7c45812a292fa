"""Run the arms of a counterfactual: from one state, four ways, with n data orders each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeAlias

from core.config import CellConfig
from core.data.bundle import Bundle
from core.events import Diverged
from core.intervention import Fork
from core.state import load
from core.trainer import Trainer
from orchestration.errors import UsageError
from orchestration.history import history_row
from orchestration.past import resume_point
from orchestration.store import Store
from sweeps.stages import Chain

KEPT = ("epoch", "accuracy_test", "accuracy_val", "accuracy_worst_class", "accuracy_class", "loss_test")
COUNTED = ("coreset_size", "samples_removed", "weights_removed", "weights_grown")

Run: TypeAlias = dict[str, Any]
"""arm, seed (of its data order), diverged, and rows: one per epoch from the switch to the horizon."""


@dataclass(frozen=True)
class Work:
    """What every arm of an event begins with."""

    cell: CellConfig
    fork: Fork
    bundle: Bundle
    state: bytes
    accuracy: float
    """On the test set, at the fork."""
    device: str
    threads: int


def before(cell: CellConfig, chain: Chain, bundle: Bundle, store: Store, switch: int, device: str) -> Trainer:
    """The run after epoch ``switch`` - 1: from the newest whole checkpoint up to there, the rest trained again.

    Raises ``UsageError`` when the run diverged before.
    """
    trainer = Trainer(cell, bundle, device)
    found = resume_point(chain, store, switch - 1)
    if found is not None:
        trainer.restore(load(found[1]))
    for _ in trainer.events(until=switch - 1):
        pass
    if trainer.diverged:
        raise UsageError(f"the cell diverged in epoch {trainer.epoch}, before the switch at {switch}: nothing to fork")
    return trainer


def runs(work: Work, todo: Sequence[tuple[str, int]], workers: int) -> Iterator[Run]:
    """The runs of arms and data orders, as they end: one after another here, or in ``workers`` processes."""
    if workers == 1:
        yield from (arm_run(work, *one) for one in todo)
        return
    pool = ProcessPoolExecutor(min(workers, len(todo)), get_context("spawn"), _begin, (work,))
    try:
        for future in as_completed([pool.submit(_arm, *one) for one in todo]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_WORK: list[Work] = []
"""What the arms of this process begin with; in a worker it is sent once, not with every arm."""


def _begin(work: Work) -> None:
    import torch

    torch.set_num_threads(work.threads)
    _WORK[:] = [work]


def _arm(arm: str, draws: int) -> Run:
    return arm_run(_WORK[0], arm, draws)


def arm_run(work: Work, arm: str, draws: int) -> Run:
    """One arm to the horizon, a row per epoch. A run that diverges is at chance from there on."""
    trainer = Trainer(work.cell, work.bundle.to(work.device), work.device, work.fork.arm(arm, draws))
    trainer.restore(load(work.state))
    rows: list[Mapping[str, Any]] = []
    for epoch in range(work.fork.first, work.fork.horizon + 1):
        if trainer.diverged:
            rows.append({"epoch": epoch, "accuracy_test": work.bundle.chance})
            continue
        events = list(trainer.events(until=epoch))
        row = history_row(events)
        rows.append({name: row[name] for name in (*KEPT, *COUNTED)})
        if isinstance(events[-1], Diverged):
            rows[-1] = {"epoch": epoch, "accuracy_test": work.bundle.chance}
    return {"arm": arm, "seed": draws, "diverged": trainer.diverged, "rows": rows}
