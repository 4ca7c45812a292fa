"""SNIP: single-shot pruning by connection sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.fixed_at_init import FixedAtInit
from core.pruning.pruner import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import View


@plugin
class SNIP(FixedAtInit):
    """Before training, keep the weights with the largest abs(w * dL/dw) on the calibration batch."""

    name: Literal["snip"] = "snip"

    summary: ClassVar[str] = "largest abs(weight x gradient) of one batch, fixed before training"
    source: ClassVar[str] = "Lee et al. 2019, arXiv 1810.02340"
    cost: ClassVar[str] = "one training pass over the calibration batch"

    @override
    def scores(self, view: View) -> Mapping[str, Tensor]:
        return scores.saliency(view.weights, view.probe.loss)

    @override
    def passes_at_init(self) -> Passes:
        return Passes(forward=1, backward=1)
