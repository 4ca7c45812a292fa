"""Sparse training from the first step: drop small weights, grow others. RigL and SET differ in what they grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from core.plugin import Fraction, Ratio, plugin
from core.pruning import scores
from core.pruning.allocation import Allocation, keep_top
from core.pruning.mask import places, top
from core.pruning.pruner import Pruner
from core.pruning.schedule import UpdateEvery, cosine, fields_read, is_due, updates_due
from core.rounding import count

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, Moment, State, View


@plugin
class DropAndGrow(Pruner):
    """Start from a random mask; at every update until ``stop``, a fraction of the epochs, exchange weights per layer.

    ``drop_fraction`` of a layer's kept weights are dropped, annealed to 0 at ``stop`` by a cosine, and as many are
    grown. A weight just dropped may grow again, and then keeps its value and momentum. A layer's count never changes.
    """

    allocation: Allocation = "erk"
    update_every: UpdateEvery = 100
    drop_fraction: Fraction = 0.3
    """Of a layer's kept weights, exchanged at the first update; a cosine takes it to 0."""
    stop: Ratio = 0.75
    """Of the epochs, when the mask is settled."""

    when: ClassVar[str] = "before the first epoch, and at every update_every until stop"

    def growth(self, view: View) -> Mapping[str, Tensor]:
        """How much a removed weight deserves to grow, >= 0."""
        raise NotImplementedError

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, keep_top(view.groups, scores.random(view.weights, view.generator()), self.allocation)

    @override
    def step(self, state: State, view: View) -> tuple[State, Mask | None]:
        progress = view.moment.progress
        if progress >= self.stop or not is_due(self.update_every, view.moment):
            return state, None
        fraction = self.drop_fraction * cosine(progress, self.stop)
        growth = self.growth(view)
        return state, {
            layer: exchange(keep, view.weights[layer].abs(), growth[layer], fraction)
            for layer, keep in view.mask.items()
        }

    @override
    def updates(self, moment: Moment) -> int:
        return updates_due(self.update_every, moment) if moment.progress < self.stop else 0

    @override
    def reads(self) -> frozenset[str]:
        return fields_read(self.update_every)


def exchange(keep: Tensor, magnitude: Tensor, growth: Tensor, fraction: float) -> Tensor:
    """``keep`` without the ``fraction`` of its weights of least magnitude, and with as many of most growth instead."""
    alive = places(keep)  # few: to choose among them takes far less than among all
    if len(alive) == keep.numel():
        return keep  # what is dropped is all that can grow
    drop = count(fraction, len(alive))
    stays = alive[top(magnitude.flatten()[alive], len(alive) - drop)]
    grown = top(growth.flatten().index_fill(0, stays, -1), drop)
    return grown.index_fill(0, stays, value=True).view(keep.shape)
