"""GraSP: gradient signal preservation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Positive, plugin
from core.pruning.fixed_at_init import FixedAtInit
from core.pruning.pruner import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import LossAt, View


@plugin
class GraSP(FixedAtInit):
    """Before training, remove the weights of largest -w * (H g): those whose loss leaves the gradient flow largest.

    g and H are gradient and Hessian of the calibration batch's loss, its logits divided by ``temperature``. Our
    reading: one batch, where the original draws ten samples per class.
    """

    name: Literal["grasp"] = "grasp"
    temperature: Positive = 200.0
    """The logits of the calibration batch are divided by it."""

    summary: ClassVar[str] = "keeps the gradient flow: lowest -weight x (Hessian x gradient), fixed before training"
    source: ClassVar[str] = "Wang et al. 2020, arXiv 2002.07376"
    cost: ClassVar[str] = "one forward pass and its gradient's gradient on the calibration batch"

    @override
    def scores(self, view: View) -> Mapping[str, Tensor]:
        from torch.nn.functional import cross_entropy

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            return cross_entropy(view.probe.logits(weights) / self.temperature, view.probe.labels)

        # The lowest -w (H g) stay: the highest w (H g).
        return weighted_curvature(view.weights, loss)

    @override
    def passes_at_init(self) -> Passes:
        return Passes(forward=1, backward=2)


def weighted_curvature(weights: Mapping[str, Tensor], loss_at: LossAt) -> dict[str, Tensor]:
    """w * (H g) by layer, of the loss's gradient g and Hessian H over all of ``weights``."""
    import torch

    with torch.enable_grad():
        leaves = {layer: weight.detach().clone().requires_grad_() for layer, weight in weights.items()}
        gradients = torch.autograd.grad(loss_at(leaves), list(leaves.values()), create_graph=True)
        # d/dw of g . stop(g) is H g.
        curved = torch.autograd.grad(gradients, list(leaves.values()), [g.detach() for g in gradients])
    return {layer: weights[layer] * hg for layer, hg in zip(leaves, curved, strict=True)}
