"""Removing weights little by little, along a cubic schedule. Methods differ in what they rank by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

from core.plugin import plugin
from core.pruning.allocation import Allocation, keep_top, total
from core.pruning.mask import equal, kept
from core.pruning.scheduled import Scheduled

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Change, Mask, State, View
    from core.pruning.scope import Group


@plugin
class Gradual(Scheduled):
    """Remove the weights of lowest score; the prune rate rises cubically from 0. What is removed stays so."""

    allocation: Allocation = "global"

    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        """What each weight is worth now, >= 0; asked for at updates only."""
        raise NotImplementedError

    @override
    def init(self, view: View) -> tuple[State, Change | None]:
        return {}, None

    @override
    def met(self, state: State, view: View) -> bool:
        return all(_met(group, view.mask, self.allocation) for group in view.groups)

    @override
    def approach(self, state: State, view: View, position: float) -> tuple[State, Change | None]:
        scores = self.scores(state, view)
        mask = keep_top(view.groups, scores, self.allocation, position=position, within=view.mask)
        return state, None if equal(view.mask, mask) else mask


def _met(group: Group, mask: Mask, allocation: Allocation) -> bool:
    """Whether the group keeps no more than its final count: nothing regrows, so there is nothing left to decide."""
    inside = {layer: mask[layer] for layer in group.layers}
    shapes = [tuple(keep.shape) for keep in inside.values()]
    return sum(kept(inside).values()) <= total(shapes, group.density, allocation)
