"""Random pruning at initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.allocation import Allocation, keep_top
from core.pruning.pruner import Pruner

if TYPE_CHECKING:
    from core.pruning.pruner import Mask, State, View


@plugin
class Random(Pruner):
    """A random mask, drawn once before training."""

    name: Literal["random"] = "random"
    allocation: Allocation = "erk"

    summary: ClassVar[str] = "a random mask, fixed before training"
    source: ClassVar[str] = "Liu et al. 2022, arXiv 2202.02643"

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, keep_top(view.groups, scores.random(view.weights, view.generator()), self.allocation)
