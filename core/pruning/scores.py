"""What a weight is worth: tensors of scores >= 0 by layer, higher is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.pruning.pruner import LossAt


def magnitude(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """abs(w), or abs(gradient)."""
    return {layer: tensor.abs() for layer, tensor in tensors.items()}


def random(weights: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform in [0, 1), drawn on the CPU in double precision, so that ties do not occur in practice."""
    import torch

    return {
        layer: torch.rand(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
        for layer, weight in weights.items()
    }


def saliency(weights: Mapping[str, Tensor], loss_at: LossAt) -> dict[str, Tensor]:
    """abs(w * dL/dw): how much the loss would change, to first order, without the weight; 0 where it reads none."""
    import torch

    with torch.enable_grad():
        leaves = {layer: weight.detach().clone().requires_grad_() for layer, weight in weights.items()}
        loss = loss_at(leaves)
        if not loss.requires_grad:
            return {layer: torch.zeros_like(weight) for layer, weight in weights.items()}
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return {layer: (weights[layer] * gradient).abs() for layer, gradient in zip(leaves, gradients, strict=True)}


def ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The share of all values of all ``tensors`` that are smaller than each, in [0, 1)."""
    import torch

    if not tensors:
        return []
    ordered = torch.cat([tensor.flatten() for tensor in tensors]).sort().values
    total = len(ordered)
    return [torch.searchsorted(ordered, tensor.contiguous()).double() / total for tensor in tensors]
