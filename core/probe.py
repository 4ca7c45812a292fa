"""Passes through the network beside the training steps, for pruners that ask: the ``Probe`` of ``core.pruning``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.data.bundle import Split
from core.network import Network
from core.pruning.couplings import Structure
from core.rng import address


class Charge(Protocol):
    """Told of every pass, of so many samples."""

    def __call__(self, samples: int, *, backward: bool = False) -> None:
        """Charge a forward pass, or a backward pass."""


class NetworkProbe:
    """The network as it stands. ``batch`` draws the calibration batch, ``val`` is the validation split."""

    def __init__(self, network: Network, batch: Callable[[], Split], val: Split, charge: Charge, seed: int = 0) -> None:
        """``seed``: of what dropout leaves out, the same in every pass."""
        self._network = network
        self._seed = seed
        self._draw = batch
        self._val = val
        self._charge = charge

    @cached_property
    def _batch(self) -> Split:
        return self._draw()

    @property
    def labels(self) -> Tensor:
        """Labels of the calibration batch."""
        return self._batch.labels

    def loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy of the calibration batch."""
        return F.cross_entropy(self.logits(weights), self.labels)

    def logits(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits of the calibration batch, in training mode."""
        return self._charged(self._training(weights), len(self.labels))

    def features(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The classifier's inputs on the calibration batch."""
        seen: list[Tensor] = []
        hook = self._network.classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self._training(weights)
        finally:
            hook.remove()
        return self._charged(seen[0].float(), len(self.labels))

    def inputs(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """By weight, the mean over positions of what its layer reads of the calibration batch."""
        seen: dict[str, Tensor] = {}
        names = {id(weight): name for name, weight in self._network.weights.items()}
        hooks = [
            module.register_forward_pre_hook(_noting(names[id(weight)], seen))
            for module in self._network.module.modules()
            if id(weight := _weight(module)) in names
        ]
        try:
            with torch.no_grad():
                self.logits(weights)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: seen[name] for name in weights if name in seen}

    def flow(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The sum of the logits of an input of ones through absolute values, in double precision."""
        module = self._network.module
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        fixed = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}
        positive = {name: tensor.double().abs() for name, tensor in {**fixed, **weights}.items()}
        ones = torch.ones((1, *self._batch.images.shape[1:]), dtype=torch.float64, device=self._network.device)
        module.eval()
        try:
            flow: Tensor = functional_call(module, positive, (ones,)).sum()
        finally:
            module.train()
        return self._charged(flow, 1)

    def validation_loss(self, weights: Mapping[str, Tensor]) -> float:
        """Mean cross-entropy of the validation split, in evaluation mode."""
        self._charge(len(self._val))
        return F.cross_entropy(self._network.logits(self._val.images, weights), self._val.labels).item()

    def structure(self) -> Structure:
        """A copy of the network in evaluation mode, and an image that it takes: bytes of zero, normalised."""
        images = self._val.images
        image = self._network.inputs(images.new_zeros(1, *images.shape[1:]))
        return Structure(deepcopy(self._network.module).eval(), image)

    def _training(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits of the batch. Attention in plain products: the fused kernels have no second derivative."""
        inputs = self._network.inputs(self._batch.images)
        with self._network.drawing(lambda: address(self._seed, "dropout")), sdpa_kernel(SDPBackend.MATH):
            return self._network.forward_frozen(inputs, weights)

    def _charged(self, output: Tensor, samples: int) -> Tensor:
        """``output``, its pass charged, and a backward pass whenever a gradient comes back through it."""
        self._charge(samples)
        if output.requires_grad:
            output.register_hook(lambda _: self._charge(samples, backward=True))  # type: ignore[no-untyped-call]
        return output


def _weight(module: nn.Module) -> Tensor | None:
    """The weight that the module applies to what it is called with."""
    name = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
    return getattr(module, name, None)


def _noting(name: str, seen: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        convolves = not isinstance(module, (nn.Linear, nn.MultiheadAttention))
        read = args[0].movedim(1, -1) if convolves else args[0]
        seen[name] = read.detach().float().flatten(1, -2).mean(1) if read.ndim > 2 else read.detach().float()

    return hook
