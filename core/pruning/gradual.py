"""Removing weights little by little, along a cubic schedule. Methods differ in what they rank by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from core.plugin import Fraction, Ratio, plugin
from core.pruning.allocation import Allocation, keep_top, total
from core.pruning.mask import equal, kept
from core.pruning.pruner import Group, Pruner
from core.pruning.schedule import UpdateEvery, begins, cubic, fields_read, is_due

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, Moment, State, View


@plugin
class Gradual(Pruner):
    """Remove the weights of lowest score; the prune rate rises cubically from 0. What is removed stays so.

    ``start`` and ``end`` are fractions of the epochs; ``start: null`` is the epoch of the first selection.
    Our reading: the target is also set at the first step of every epoch from ``end`` on, and of the last epoch, so that
    it is met however few steps a small coreset leaves.
    """

    allocation: Allocation = "global"
    start: Fraction | None = None
    """Of the epochs, when pruning begins; null: with the first selection."""
    end: Ratio = 0.75
    """Of the epochs, when the prune rate is reached."""
    update_every: UpdateEvery = 100

    when: ClassVar[str] = "from start to end, at every update_every; nothing grows again"

    def observe(self, state: State, view: View) -> State:
        """What the method carries from step to step, renewed after every backward pass. The default carries nothing."""
        return state

    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        """What each weight is worth now, >= 0; asked for at updates only."""
        raise NotImplementedError

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, None

    @override
    def step(self, state: State, view: View) -> tuple[State, Mask | None]:
        moment, state = view.moment, self.observe(state, view)
        position = self.position(moment)
        settles = position == 1 and moment.step_in_epoch == 0
        if position == 0 or not (settles or is_due(self.update_every, moment)):
            return state, None
        if position == 1 and all(_met(group, view.mask, self.allocation) for group in view.groups):
            return state, None
        scores = self.scores(state, view)
        mask = keep_top(view.groups, scores, self.allocation, position=position, within=view.mask)
        return state, None if equal(view.mask, mask) else mask

    def position(self, moment: Moment) -> float:
        """Share of the final prune rate that is due in this epoch, in [0, 1]."""
        start = (moment.first_selection - 1) / moment.epochs if self.start is None else self.start
        return 1.0 if moment.epoch == moment.epochs else cubic(moment.progress, start, self.end)

    @override
    def acts_from(self, epochs: int, first_selection: int) -> int:
        """The start: what a method observes before does not depend on the rate."""
        return begins(self.start, epochs, first_selection)

    @override
    def reads(self) -> frozenset[str]:
        first_selection = {"warmup_epochs", "select_every", "schedule"} if self.start is None else set()
        return fields_read(self.update_every) | first_selection


def _met(group: Group, mask: Mask, allocation: Allocation) -> bool:
    """Whether the group keeps no more than its final count: nothing regrows, so there is nothing left to decide."""
    inside = {layer: mask[layer] for layer in group.layers}
    shapes = [tuple(keep.shape) for keep in inside.values()]
    return sum(kept(inside).values()) <= total(shapes, group.density, allocation)
