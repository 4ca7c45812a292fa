"""The optimizer of a run, and the batches of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.config import CellConfig
from core.schedule import batches_in


def sgd(cell: CellConfig, module: nn.Module) -> torch.optim.SGD:
    """The cell's optimizer for the module's parameters, at the learning rate of the first epoch."""
    return torch.optim.SGD(
        module.parameters(),
        lr=cell.lr,
        momentum=cell.momentum,
        weight_decay=cell.weight_decay,
        nesterov=cell.nesterov,
        fused=True,
    )


def batches_of(order_M: Tensor, size: int) -> list[Tensor]:
    """As few batches of ``size`` at most as hold all samples, equal in size but for one sample.

    A remainder of two or three samples as a batch of its own would break training down under batch norm, whatever is
    pruned and selected. No batch holds a single sample while there are two.
    """
    return list(torch.tensor_split(order_M, batches_in(len(order_M), size)))
