"""SNIP: single-shot pruning by connection sensitivity."""

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
class SNIP(Pruner):
    """Before training, keep the weights with the largest abs(w * dL/dw) on the calibration batch."""

    name: Literal["snip"] = "snip"
    allocation: Allocation = "global"

    summary: ClassVar[str] = "largest abs(weight x gradient) of one batch, fixed before training"
    source: ClassVar[str] = "Lee et al. 2019, arXiv 1810.02340"

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, keep_top(view.groups, scores.saliency(view.weights, view.loss_at), self.allocation)
