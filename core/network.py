"""A built model with its effective weights: forward passes for training, evaluation and scoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from core.config import CellConfig
from core.data.bundle import Bundle, Split
from core.events import Evaluation
from core.pruning.cuts import Surgery
from core.pruning.scope import classifier, prunable
from core.rng import address

CHUNK = 1024
"""Most samples of a forward pass without gradients."""
RATES = ("p", "dropout", "drop_prob")
"""What modules call the rate at which they drop."""
CACHED = 2**17
"""Pixels whose activations a CPU's caches about hold: larger chunks are 2 to 3 times slower there."""


def build(cell: CellConfig, bundle: Bundle, device: torch.device) -> nn.Module:
    """The cell's model with its own initial weights, drawn on the CPU from the seed's ``init`` stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(address(cell.seed, "init"))
        model = cell.model.build(bundle.image_shape, bundle.num_classes)
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Network:
    """The module, its prunable weights by name, and the arithmetic of its device."""

    def __init__(self, module: nn.Module, bundle: Bundle) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self._drops = any(_drops(part) for part in module.modules())
        self.classifier_weight = classifier(module)
        self.reshaped(Surgery())
        self._scale = (1.0 / bundle.std_C).view(1, -1, 1, 1).to(self.device)
        self._shift = (-bundle.mean_C / bundle.std_C).view(1, -1, 1, 1).to(self.device)

    def reshaped(self, surgery: Surgery) -> None:
        """Look at the module again. ``surgery``: all that was done to it so far, as one."""
        self.surgery = surgery
        self.weights = prunable(self.module)
        # Where it was cut in two, both parts together: its inputs stay the features.
        self.classifier = self.module.get_submodule(self.classifier_weight.removesuffix(".weight"))

    @property
    def features(self) -> int:
        """How many inputs the classifier has."""
        return int(next(self.classifier.parameters()).shape[1])

    def inputs(self, images: Tensor) -> Tensor:
        """Bytes to normalised floats, channels last: the quicker layout on GPUs and, by a third, on CPUs."""
        return images.to(torch.float32, memory_format=torch.channels_last).mul_(self._scale).add_(self._shift)

    def forward(self, inputs: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Float32 logits, with ``weights`` in place of the stored ones; bfloat16 autocast on a CUDA device."""
        with self._precision():
            output = self.module(inputs) if weights is None else functional_call(self.module, dict(weights), (inputs,))
        logits: Tensor = output.float()
        return logits

    @contextmanager
    def drawing(self, seed: Callable[[], int]) -> Iterator[None]:
        """Draw what dropout leaves out from this seed, and not from torch's global generator; free without dropout."""
        if not self._drops:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed())
            yield

    def forward_frozen(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Like ``forward`` in training mode, but leaving the batch-norm statistics as they are."""
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        return self.forward(inputs, {**buffers, **weights})

    def measure_statistics(
        self, images: Tensor, batches: Iterable[Tensor], weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Batch-norm statistics of the network as it stands: plain means over the batches, given by their indices."""
        norms = [part for part in self.module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
        falling = [norm.momentum for norm in norms]
        with self._evaluating():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for index_B in batches:
                self.forward(self.inputs(images[index_B]), weights)
        for norm, momentum in zip(norms, falling, strict=True):
            norm.momentum = momentum

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def logits(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (N x C) in evaluation mode, without augmentation, in chunks."""
        with self._evaluating():
            chunks = torch.split(images, self._chunk(images))
            return torch.cat([self.forward(self.inputs(chunk), weights) for chunk in chunks])

    def _chunk(self, images: Tensor) -> int:
        if self.device.type != "cpu":
            return CHUNK
        return min(CHUNK, max(16, CACHED // math.prod(images.shape[2:])))

    def logits_and_features(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Logits (N x C) and the classifier's inputs (N x D), as ``logits``."""
        features: list[Tensor] = []
        hook = self.classifier.register_forward_pre_hook(lambda _, args: features.append(args[0].float()))
        try:
            logits = self.logits(images, weights)
        finally:
            hook.remove()
        return logits, torch.cat(features)

    def sample_gradients(
        self, images: Tensor, labels: Tensor, weights: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Gradient of every sample's own cross-entropy by the weight of every layer (B x the weight's shape).

        In evaluation mode, without augmentation. Convolutions and linear layers that run as modules; no others.
        """
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        handles = [layer.register_forward_hook(_keep(seen, name)) for name, layer in self._layers().items()]
        try:
            with self._evaluating(), torch.enable_grad():
                logits = self.forward(self.inputs(images), weights)
                loss = F.cross_entropy(logits, labels, reduction="sum")
                slopes = torch.autograd.grad(loss, [output for _, output in seen.values()])
        finally:
            for handle in handles:
                handle.remove()
        layers = self._layers()
        with torch.no_grad():
            return {
                name: _by_sample(layers[name], given.float(), slope.float())
                for (name, (given, _)), slope in zip(seen.items(), slopes, strict=True)
            }

    def _layers(self) -> dict[str, nn.Conv2d | nn.Linear]:
        named = ((name, self.module.get_submodule(name.rpartition(".")[0])) for name in self.weights)
        plain = (nn.Conv2d, nn.Linear)
        return {name: layer for name, layer in named if isinstance(layer, plain) and not _pads_by_name(layer)}

    def evaluate(self, split: Split, num_classes: int, weights: Mapping[str, Tensor] | None = None) -> Evaluation:
        """Mean loss, accuracy and recall per class on a split of at least one sample."""
        logits = self.logits(split.images, weights)
        correct = logits.argmax(1) == split.labels
        totals = split.labels.bincount(minlength=num_classes)
        hits = split.labels[correct].bincount(minlength=num_classes)
        return Evaluation(
            loss=F.cross_entropy(logits, split.labels).item(),
            accuracy=int(correct.sum()) / len(split),
            class_accuracy=tuple((hits.double() / totals).tolist()),
        )

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.module.train()


def _drops(part: nn.Module) -> bool:
    """Whether the module draws at random while it trains: dropout, of attention too, and stochastic depth."""
    return any(isinstance(rate := getattr(part, name, None), float) and rate > 0 for name in RATES)


def _keep(
    seen: dict[str, tuple[Tensor, Tensor]], name: str
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen[name] = given[0].detach(), output
        return output.clone()  # an activation in place behind the layer would write over its output, and its slope

    return hook


def _pads_by_name(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "padding", None), str) or getattr(layer, "padding_mode", "zeros") != "zeros"


def _by_sample(layer: nn.Conv2d | nn.Linear, given: Tensor, slope: Tensor) -> Tensor:
    """Gradient of each sample by the layer's weight, from the layer's input and the slope at its output."""
    if isinstance(layer, nn.Linear):
        return torch.einsum("b...o,b...i->boi", slope, given)
    patches = F.unfold(given, layer.kernel_size, layer.dilation, cast("tuple[int, int]", layer.padding), layer.stride)
    # Channels of one group meet only the input channels of that group.
    grouped = (len(given), layer.groups, -1, patches.shape[2])
    gradient_BGOK = slope.reshape(grouped) @ patches.reshape(grouped).mT
    return gradient_BGOK.reshape(len(given), *layer.weight.shape)
