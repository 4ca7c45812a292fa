"""Gradual magnitude pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.gradual import Gradual

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import State, View


@plugin
class GMP(Gradual):
    """Remove the smallest weights little by little; the prune rate rises cubically from 0. What is removed stays so.

    ``start`` and ``end`` are fractions of the epochs; ``start: null`` is the epoch of the first selection.
    Our reading: the target is also set at the first step of every epoch from ``end`` on, and of the last epoch, so that
    it is met however few steps a small coreset leaves.
    """

    name: Literal["gmp"] = "gmp"

    summary: ClassVar[str] = "smallest magnitudes, removed along a cubic schedule"
    source: ClassVar[str] = "Zhu & Gupta 2017, arXiv 1710.01878"

    @override
    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        return scores.magnitude(view.weights)
