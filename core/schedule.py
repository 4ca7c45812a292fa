"""What happens in which epoch. Every position is a fraction of the epochs, so that nothing early reads alpha."""

from __future__ import annotations

import math
from typing import Literal

from core.config import CellConfig, coreset_starts, selection_interval, warmup_epochs

Phase = Literal["full", "idle", "coreset"]


def learning_rate(cell: CellConfig, epoch: int) -> float:
    """Cosine to zero over T epochs, constant within one: lr/2 * (1 + cos(pi (t-1) / T)) [paper, hyper-parameters]."""
    return 0.5 * cell.lr * (1 + math.cos(math.pi * (epoch - 1) / cell.epochs))


def batches_in(samples: int, batch_size: int) -> int:
    """How many batches of ``batch_size`` at most an epoch has: as few as can be, none of one of several samples.

    So one of 3 where ``batch_size`` is 2 and the number of samples odd.
    """
    return max(min(samples, 1), min(math.ceil(samples / batch_size), samples // 2))


def phase(cell: CellConfig, epoch: int) -> Phase:
    """On what the epoch trains: all data, nothing (the gap of the ``skip`` schedule), or the coreset."""
    if epoch >= coreset_starts(cell):
        return "coreset"
    skipping = cell.schedule == "skip" and cell.coreset_ratio < 1
    return "idle" if skipping and epoch > warmup_epochs(cell) else "full"


def selects(cell: CellConfig, epoch: int) -> bool:
    """Whether the selector chooses a new coreset at the start of the epoch [Algorithm 1: t > K and t mod R = 0]."""
    return phase(cell, epoch) == "coreset" and epoch % selection_interval(cell) == 0


def starts_at_random(cell: CellConfig, epoch: int) -> bool:
    """Whether the epoch begins the coreset phase of ``skip`` between two selections, with a random subset."""
    return epoch == coreset_starts(cell) and not selects(cell, epoch) and epoch <= cell.epochs


def switches_at(cell: CellConfig, epoch: int) -> bool:
    """Whether the epoch begins with another training set than the epoch before."""
    return selects(cell, epoch) or starts_at_random(cell, epoch)


def due_at(cell: CellConfig, epoch: int) -> bool:
    """Whether the epoch begins with a switch that stands out: the first, and every one that R makes due.

    All switches do, but what an online selector exchanges from epoch to epoch: there R is how often it is looked at.
    """
    return switches_at(cell, epoch) and (epoch == coreset_starts(cell) or epoch % cell.select_every == 0)


def switches(cell: CellConfig) -> tuple[int, ...]:
    """The epochs that begin with a switch that stands out."""
    return tuple(t for t in range(1, cell.epochs + 1) if due_at(cell, t))
