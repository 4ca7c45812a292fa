"""Gradual magnitude pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Fraction, Ratio, plugin
from core.pruning import scores
from core.pruning.allocation import Allocation, keep_top
from core.pruning.mask import equal
from core.pruning.pruner import Pruner
from core.pruning.schedule import UpdateEvery, cubic, fields_read, is_due

if TYPE_CHECKING:
    from core.pruning.pruner import Mask, Moment, State, View


@plugin
class GMP(Pruner):
    """Remove the smallest weights little by little; the prune rate rises cubically from 0. What is removed stays so.

    ``start`` and ``end`` are fractions of the epochs; ``start: null`` is the epoch of the first selection.
    Our reading: the target is also set at the first step of every epoch from ``end`` on, and of the last epoch, so that
    it is met however few steps a small coreset leaves.
    """

    name: Literal["gmp"] = "gmp"
    allocation: Allocation = "global"
    start: Fraction | None = None
    end: Ratio = 0.75
    update_every: UpdateEvery = 100

    summary: ClassVar[str] = "smallest magnitudes, removed along a cubic schedule"
    source: ClassVar[str] = "Zhu & Gupta 2017, arXiv 1710.01878"

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, None

    @override
    def step(self, state: State, view: View) -> tuple[State, Mask | None]:
        moment = view.moment
        position = self.position(moment)
        settles = position == 1 and moment.step_in_epoch == 0
        if position == 0 or not (settles or is_due(self.update_every, moment)):
            return state, None
        score = scores.magnitude(view.weights)
        mask = keep_top(view.groups, score, self.allocation, position=position, within=view.mask)
        return state, None if equal(view.mask, mask) else mask

    def position(self, moment: Moment) -> float:
        """Share of the final prune rate that is due in this epoch, in [0, 1]."""
        start = (moment.first_selection - 1) / moment.epochs if self.start is None else self.start
        return 1.0 if moment.epoch == moment.epochs else cubic(moment.progress, start, self.end)

    @override
    def reads(self) -> frozenset[str]:
        first_selection = {"warmup_epochs", "select_every", "schedule"} if self.start is None else set()
        return fields_read(self.update_every) | first_selection
