"""Random pruning at initialisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.allocation import Allocation
from core.pruning.fixed_at_init import FixedAtInit

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import View


@plugin
class Random(FixedAtInit):
    """A random mask, drawn once before training."""

    name: Literal["random"] = "random"
    allocation: Allocation = "erk"

    summary: ClassVar[str] = "a random mask, fixed before training"
    source: ClassVar[str] = "Liu et al. 2022, arXiv 2202.02643"

    @override
    def scores(self, view: View) -> Mapping[str, Tensor]:
        return scores.random(view.weights, view.generator())
