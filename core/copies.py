"""Copies of the network, cut smaller and trained beside it: the ``Apart`` of ``core.coresets``."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import CellConfig
from core.coresets.samples import Copy
from core.data.bundle import Bundle
from core.flops import LayerMacs
from core.macs import measure
from core.network import Network
from core.pruning.couplings import Structure
from core.pruning.cuts import Surgery
from core.schedule import learning_rate
from core.steps import batches_of, sgd
from core.surgery import operate, placed


class Charge(Protocol):
    """Told of the samples that a network of these layers saw, forward and backward."""

    def __call__(self, layers: Sequence[LayerMacs], *, forward: int, backward: int) -> None:
        """Charge the passes."""


class Copies:
    """Copies of the network as it stands in this epoch, with its effective weights."""

    def __init__(
        self,
        cell: CellConfig,
        epoch: int,
        bundle: Bundle,
        module: nn.Module,
        weights: dict[str, Tensor],
        charge: Charge,
    ) -> None:
        """``weights``: the effective ones where they are not the stored ones."""
        self._cell = cell
        self._epoch = epoch
        self._bundle = bundle
        self._module = module
        self._weights = weights
        self._charge = charge

    def _copy(self) -> nn.Module:
        module = deepcopy(self._module)
        module.load_state_dict({**module.state_dict(), **self._weights})
        return module

    def structure(self) -> Structure:
        """A copy in evaluation mode, and an image of zeros that it takes."""
        device = next(self._module.parameters()).device
        return Structure(self._copy().eval(), torch.zeros(1, *self._bundle.image_shape, device=device))

    def trained(self, surgery: Surgery, epochs: int, rng: torch.Generator) -> Copy:
        """A copy without what the surgery removes, trained on all samples as the network is in this epoch."""
        network = Network(self._copy(), self._bundle)
        optimizer = sgd(self._cell, network.module)
        operate(network, optimizer, surgery)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self._cell, self._epoch)
        total = len(self._bundle.train)
        for _ in range(epochs):
            order_N = torch.randperm(total, generator=rng).to(network.device)
            for index_B in batches_of(order_N, self._cell.batch_size):
                self._step(network, optimizer, index_B, rng)
        layers = measure(network.module, self._bundle.image_shape)
        self._charge(layers, forward=(epochs + 1) * total, backward=epochs * total)
        return Copy(surgery, network.module.state_dict(), network.logits(self._bundle.train.images))

    def _step(self, network: Network, optimizer: torch.optim.Optimizer, index_B: Tensor, rng: torch.Generator) -> None:
        train = self._bundle.train
        optimizer.zero_grad(set_to_none=True)
        with network.drawing(lambda: int(torch.randint(2**32, (1,), generator=rng))):
            logits_BC = network.forward(network.inputs(train.images[index_B]))
        torch.autograd.backward(F.cross_entropy(logits_BC, train.labels[index_B]))
        optimizer.step()


def fuse(module: nn.Module, copy: Copy) -> None:
    """Let what a copy learnt take the place that it was cut from; all else in the module stays."""
    stays: dict[str, dict[int, Tensor]] = {}
    for (name, dim), index in copy.surgery.kept.items():
        stays.setdefault(name, {})[dim] = index
    own = module.state_dict()
    module.load_state_dict({name: placed(own[name], new, stays.get(name, {})) for name, new in copy.tensors.items()})
