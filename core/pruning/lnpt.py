"""LNPT: label-free pruning by the learning gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Fraction, plugin
from core.pruning import scores
from core.pruning.gradual import Gradual
from core.pruning.pruner import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, State, View
    from core.pruning.scope import Group


@plugin
class LNPT(Gradual):
    """Remove the weights of least abs(w * d gap / dw), along a cubic schedule.

    The gap is the squared distance between the classifier's inputs and a teacher's, averaged over the calibration
    batch, whose labels are never read. The state holds the teacher's weights, ``teacher``.
    Our readings: the original's teacher is a mature network elsewhere; ours is the run's own moving average, which
    keeps ``teacher_decay`` of itself at every step and is never masked. The gradual schedule of ``gmp``. A layer that
    the gap does not read, the classifier above all, is pruned by magnitude, to about the rate of its group: each of its
    weights is worth the group's score of the same rank.
    """

    name: Literal["lnpt"] = "lnpt"
    teacher_decay: Fraction = 0.99
    """Share of itself that the teacher, a moving average of the weights, keeps at every step."""

    summary: ClassVar[str] = "least effect on the distance of the features to a teacher's; needs no labels"
    source: ClassVar[str] = "Xie et al. 2024, arXiv 2403.12690"
    cost: ClassVar[str] = "two forward passes and a backward pass over the calibration batch per update"
    tensors_per_weight: ClassVar[int] = 1

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {f"teacher/{layer}": weight.clone() for layer, weight in view.weights.items()}, None

    @override
    def observe(self, state: State, view: View) -> State:
        moved = {layer: state[f"teacher/{layer}"].lerp(w, 1 - self.teacher_decay) for layer, w in view.weights.items()}
        return {f"teacher/{layer}": teacher for layer, teacher in moved.items()}

    @override
    def scores(self, state: State, view: View) -> Mapping[str, Tensor]:
        import torch

        with torch.no_grad():
            taught_BD = view.probe.features({layer: state[f"teacher/{layer}"] for layer in view.weights})

        def gap(weights: Mapping[str, Tensor]) -> Tensor:
            return (view.probe.features(weights) - taught_BD).square().sum(1).mean()

        told = scores.saliency(view.weights, gap)
        return {layer: score for group in view.groups for layer, score in _filled(group, told, view.weights).items()}

    @override
    def passes_at_update(self) -> Passes:
        return Passes(forward=2, backward=1)


def _filled(group: Group, told: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The group's scores, those of layers without any taken from the others' at equal rank of magnitude."""
    import torch

    found = {layer: told[layer] for layer in group.layers if bool(told[layer].any())}
    magnitude = scores.magnitude({layer: weights[layer] for layer in group.layers if layer not in found})
    if not found or not magnitude:
        return found | magnitude
    ordered = torch.cat([score.flatten() for score in found.values()]).sort().values
    for layer, rank in zip(magnitude, (scores.ranks([size])[0] for size in magnitude.values()), strict=True):
        found[layer] = ordered[(rank * len(ordered)).long()]
    return found
