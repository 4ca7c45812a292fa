"""The nearest point of a set: probabilities within a budget, a matrix of a rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HALVINGS = 30
"""Leaves 1e-9 of the range: below the spacing of float32 numbers near 1."""


def project(values: Sequence[Tensor], budget: float, *, spend_all: bool = False) -> list[Tensor]:
    """The nearest point of {0 <= s <= 1, sum of all s <= budget}: clamp(values - shift), the shift by bisection.

    ``spend_all``: with a sum equal to the budget, which is at most their number, up to the accuracy of the bisection.
    """
    import torch

    def excess(shift: Tensor) -> Tensor:
        sums = [(value - shift).clamp(0, 1).sum(dtype=torch.float64) for value in values]
        return torch.stack(sums).sum() - budget

    low, high = values[0].new_zeros(()), torch.stack([value.max() for value in values]).max().clamp(min=0)
    if spend_all:
        # Down to where every value reaches 1.
        low = (torch.stack([value.min() for value in values]).min() - 1).clamp(max=0)
    if excess(low) <= 0:
        return [(value - low).clamp(0, 1) for value in values]
    # The upper end is returned: there the sum never exceeds the budget. No branch, so no wait for the device.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        over = excess(middle) > 0
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return [(value - high).clamp(0, 1) for value in values]


def truncated(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors (outputs x rank, rank x inputs) of the nearest matrix of this rank, by singular values."""
    import torch

    u, s, vh = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    up_OR, down_RI = u[:, :rank] * root, root[:, None] * vh[:rank]
    return up_OR.to(weight).contiguous(), down_RI.to(weight).contiguous()
