"""The optimizer of a run, and the batches of an epoch."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch import Tensor, nn

from core.config import CellConfig
from core.schedule import batches_in


class SGD(torch.optim.SGD):
    """PyTorch's, without the wrappers by which it exempts itself from ``torch.compile``.

    Those load the compiler, which nothing here uses: more than a second and 150 MB of every process that trains.
    """

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)
    state_dict = unwrap(torch.optim.SGD.state_dict)
    zero_grad = unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


def sgd(cell: CellConfig, module: nn.Module) -> torch.optim.SGD:
    """The cell's optimizer for the module's parameters, at the learning rate of the first epoch."""
    return SGD(
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
