"""Masks that are chosen once, before training. Methods differ in their scores alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from core.plugin import plugin
from core.pruning.allocation import Allocation, keep_top
from core.pruning.pruner import Pruner

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, State, View


@plugin
class FixedAtInit(Pruner):
    """Before training, keep the weights of highest score; the mask never changes again."""

    allocation: Allocation = "global"

    when: ClassVar[str] = "once, before the first epoch"

    def scores(self, view: View) -> Mapping[str, Tensor]:
        """What each weight is worth at initialisation; any sign, the highest stay."""
        raise NotImplementedError

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, keep_top(view.groups, self.scores(view), self.allocation)
