"""Schedules: positions are fractions of the epochs, only ``update_every: n`` counts optimizer steps."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, TypeAlias

from pydantic import Field

from core.plugin import Count, plugin
from core.pruning.pruner import Moment


@plugin
class PerInterval:
    """This many updates, spread evenly over the R epochs between two selections."""

    per_interval: Count


UpdateEvery: TypeAlias = Annotated[
    Count | PerInterval,
    Field(description="Optimizer steps from one update of the mask to the next, or updates between two selections."),
]


def is_due(update_every: UpdateEvery, moment: Moment) -> bool:
    """Whether a mask update falls on this step; never on the run's first one when steps are counted.

    Per interval: the steps of the R epochs from one multiple of R to the next are numbered from 1 to L, and an update
    falls where floor(n * number / L) rises. Integers only, so the n updates land on the same steps everywhere.
    """
    if isinstance(update_every, int):
        return moment.step > 0 and moment.step % update_every == 0
    length = moment.select_every * moment.steps_in_epoch
    before = moment.epoch % moment.select_every * moment.steps_in_epoch + moment.step_in_epoch
    n = update_every.per_interval
    return n * (before + 1) // length > n * before // length


def updates_due(update_every: UpdateEvery, moment: Moment) -> int:
    """How many steps of the epoch that begins with ``moment`` are due, without asking each."""
    step, steps = moment.step, moment.steps_in_epoch
    if isinstance(update_every, int):
        multiples = max(step + steps - 1, 0) // update_every - max(step - 1, 0) // update_every
        return multiples if steps else 0
    length, n = moment.select_every * steps, update_every.per_interval
    before = moment.epoch % moment.select_every * steps
    return min(steps, n * (before + steps) // length - n * before // length) if steps else 0


def fields_read(update_every: UpdateEvery) -> frozenset[str]:
    """The fields of the cell on which ``is_due`` depends."""
    return frozenset({"select_every"}) if isinstance(update_every, PerInterval) else frozenset()


def cubic(progress: float, start: float, end: float) -> float:
    """1 - (1 - (progress - start) / (end - start))^3: 0 until ``start``, 1 from ``end``. arXiv 1710.01878, eq. 1.

    A start at or after the end makes it a step at the start.
    """
    if progress < start:
        return 0.0
    if progress >= end:
        return 1.0
    return 1 - (1 - (progress - start) / (end - start)) ** 3


def begins(start: float | None, epochs: int, first_selection: int) -> int:
    """The first epoch t with (t - 1) / epochs >= ``start``, or the first selection; the last epoch at the latest."""
    if start is None:
        return min(first_selection, epochs)
    return next((t for t in range(1, epochs) if (t - 1) / epochs >= start), epochs)


def density_at(prune_rate: float, position: float) -> float:
    """1 - prune_rate * position; exact on the decimals written where position is 0 or 1."""
    return float(1 - Fraction(repr(float(prune_rate))) * Fraction(position))


def cosine(progress: float, end: float = 1.0) -> float:
    """(1 + cos(pi * progress / end)) / 2: from 1 to 0 at ``end``."""
    return (1 + math.cos(math.pi * progress / end)) / 2


def temperature(progress: float) -> float:
    """ProbMask's factor on the mask's logit, rising from 1 towards 1 / 0.03. arXiv 2105.01571 (code)."""
    return 1 / ((1 - 0.03) * (1 - progress) + 0.03)
