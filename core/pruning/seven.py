"""SEVEN: pruning by accumulated, adaptively scaled sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import BelowOne, plugin
from core.pruning.gradual import Gradual

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, State, View

EPSILON = 1e-8


@plugin
class SEVEN(Gradual):
    """Remove the weights whose sensitivity, summed over all steps so far, is least; along a cubic schedule.

    A step adds abs(w * g * m / sqrt(v)), with m and v the bias-corrected moving averages of abs(g) and g^2 that keep
    ``decay`` of the past. The state holds, per layer, the sum ``importance`` and the averages ``mean`` and ``square``.
    Our readings: start, end and clock are those of ``gmp``; the sums begin with the first step, and a removed weight's
    no longer counts.
    """

    name: Literal["seven"] = "seven"
    decay: BelowOne = 0.8
    """Share of its past that the moving averages of gradients keep at every step."""

    summary: ClassVar[str] = "least sensitivity over the steps so far, removed along a cubic schedule"
    source: ClassVar[str] = "Xiao et al. 2024, arXiv 2403.12688"
    cost: ClassVar[str] = "three more tensors per weight; a few elementwise operations per step"
    tensors_per_weight: ClassVar[int] = 3

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        import torch

        parts = ("importance", "mean", "square")
        return {f"{part}/{layer}": torch.zeros_like(w) for part in parts for layer, w in view.weights.items()}, None

    @override
    def observe(self, state: State, view: View) -> State:
        # Averages of abs(g) and g^2 that start at 0 weigh 1 - decay^t in all after t steps.
        weighed = 1 - self.decay ** (view.moment.step + 1)
        moved: dict[str, Tensor] = {}
        for layer, weight in view.weights.items():
            gradient = view.gradients[layer]
            mean = state[f"mean/{layer}"].lerp(gradient.abs(), 1 - self.decay)
            square = state[f"square/{layer}"].lerp(gradient.square(), 1 - self.decay)
            scale = (mean / weighed) / ((square / weighed).sqrt() + EPSILON)
            moved[f"importance/{layer}"] = state[f"importance/{layer}"] + (weight * gradient * scale).abs()
            moved |= {f"mean/{layer}": mean, f"square/{layer}": square}
        return moved

    @override
    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        return {layer: state[f"importance/{layer}"] for layer in view.weights}
