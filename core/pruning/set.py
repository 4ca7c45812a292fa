"""SET: grow at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.drop_and_grow import DropAndGrow

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import View


@plugin
class SET(DropAndGrow):
    """RigL with random growth: drop the smallest weights, grow random ones.

    Our reading: the schedule is RigL's too, in epochs, where the original drops a constant fraction once per epoch.
    """

    name: Literal["set"] = "set"

    summary: ClassVar[str] = "sparse from the start; drops small weights, grows at random"
    source: ClassVar[str] = "Mocanu et al. 2018, arXiv 1707.04780"

    @override
    def growth(self, view: View) -> Mapping[str, Tensor]:
        return scores.random(view.weights, view.generator())
