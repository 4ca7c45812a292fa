"""ProbMask: learn the probability that each weight is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Fraction, Positive, Ratio, plugin
from core.projection import project
from core.pruning.allocation import keep_top
from core.pruning.pruner import Pruner
from core.pruning.schedule import cosine, cubic, density_at, temperature
from core.rounding import count

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.pruning.pruner import Mask, Moment, State, View

EPSILON = 1e-20
LEAST = 2.0**-25
"""Below every draw but 0."""
DECAY_MEAN, DECAY_SQUARE = 0.9, 0.999


@plugin
class ProbMask(Pruner):
    """Train through w * m, m = sigmoid(T * (logit s + logistic noise)); s follows Adam, projected onto sum(s) <= k.

    k falls cubically between ``start`` and ``end``, fractions of the epochs, and is shared by a whole group. T rises
    from 1 to 33. The state holds, per layer, the probabilities ``score`` and Adam's ``mean`` and ``square``.
    Our readings: evaluation uses the k largest s, renewed at the end of every epoch, where the original draws from
    Bernoulli(s); one draw of the noise per step (original: two); no gradient clipping; the target is due in the last
    epoch at the latest. The score's learning rate falls by a cosine, as in the original's code.
    """

    name: Literal["probmask"] = "probmask"
    semantics_version: ClassVar[int] = 2
    learning_rate: Positive = 6e-3
    """Of the scores, in the first epoch."""
    start: Fraction = 0.16
    """Of the epochs, when the budget begins to fall."""
    end: Ratio = 0.6
    """Of the epochs, when the budget has fallen to the prune rate."""

    summary: ClassVar[str] = "learns keep probabilities under one global budget"
    source: ClassVar[str] = "Zhou et al. 2021, arXiv 2105.01571"
    cost: ClassVar[str] = "trains dense, with three more tensors per weight; a projection per step"
    when: ClassVar[str] = "at every step; the rate rises from start to end"
    tensors_per_weight: ClassVar[int] = 3
    dense_gradient: ClassVar[Literal["never", "updates", "always"]] = "always"
    learns_forward: ClassVar[bool] = True

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        import torch

        state: dict[str, Tensor] = {}
        for layer, weight in view.weights.items():
            state[f"score/{layer}"] = torch.ones_like(weight)
            state[f"mean/{layer}"] = torch.zeros_like(weight)
            state[f"square/{layer}"] = torch.zeros_like(weight)
        return state, None

    @override
    def forward_weights(
        self, state: State, weights: Mapping[str, Tensor], moment: Moment, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        import torch

        sharpness = temperature(moment.progress)
        masked: dict[str, Tensor] = {}
        for layer, weight in weights.items():
            score = state[f"score/{layer}"].requires_grad_()
            # A draw of 0, which is next to 2**-24, would meet a score of 1 with a gradient of 1e20.
            noise = torch.rand(weight.shape, generator=generator).logit(LEAST)
            logit = (score + EPSILON).log() - (1 - score + EPSILON).log()
            masked[layer] = weight * ((logit + noise.to(weight)) * sharpness).sigmoid()
        return masked

    @override
    def step(self, state: State, view: View) -> tuple[State, Mask | None]:
        moment = view.moment
        position = self.position(moment)
        rate = self.learning_rate * cosine(moment.progress)
        moved: dict[str, Tensor] = {}
        for layer in view.weights:
            moved |= _adam(state, layer, rate, moment.step + 1)
        for group in view.groups:
            names = [f"score/{layer}" for layer in group.layers]
            scores = [moved[name] for name in names]
            budget = count(density_at(group.prune_rate, position), sum(score.numel() for score in scores))
            moved |= zip(names, project(scores, budget), strict=True)
        if not moment.ends_epoch:
            return moved, None
        likely = {layer: moved[f"score/{layer}"] for layer in view.weights}
        return moved, keep_top(view.groups, likely, "global", position=position)

    @override
    def position(self, moment: Moment) -> float:
        return 1.0 if moment.epoch == moment.epochs else cubic(moment.progress, self.start, self.end)

    @override
    def updates(self, moment: Moment) -> int:
        return 1  # its mask is read off at the end of every epoch


def _adam(state: State, layer: str, rate: float, updates: int) -> dict[str, Tensor]:
    """The layer's entries after one step of Adam: fresh tensors, none of which requires a gradient."""
    import torch

    score, mean, square = (state[f"{part}/{layer}"].detach() for part in ("score", "mean", "square"))
    gradient = state[f"score/{layer}"].grad
    gradient = torch.zeros_like(score) if gradient is None else gradient
    mean = mean.lerp(gradient, 1 - DECAY_MEAN)
    square = square.lerp(gradient.square(), 1 - DECAY_SQUARE)
    spread = (square / (1 - DECAY_SQUARE**updates)).sqrt() + 1e-8
    score = score - rate * mean / (1 - DECAY_MEAN**updates) / spread
    return {f"score/{layer}": score, f"mean/{layer}": mean, f"square/{layer}": square}
