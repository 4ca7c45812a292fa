"""What a run computes: multiply-accumulates per layer, measured once, and ledgers of floating-point operations.

One MAC is 2 FLOP. Convolutions, linear layers and attention count; normalisation, activations, pooling, biases and
the optimizer do not (under 1 % of a residual network). Torch's own counter is blind to masks, so sparse costs are
computed here: a layer whose weights have density d costs d times its dense cost, on hardware that could use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class LayerMacs:
    """Multiply-accumulates of one use of a weight in the forward pass of one sample.

    ``name`` is the weight's parameter name, ``None`` for a product of two activations (attention). ``first`` marks the
    layer that reads the image, whose input needs no gradient.
    """

    name: str | None
    macs: int
    first: bool = False


@dataclass(frozen=True)
class Ledger:
    """Cost of a piece of a run, in FLOP and seconds; ledgers add up.

    ``dense`` is what dense kernels execute for training and selection. The theoretical cost of sparse training is
    ``forward``, ``grad_input`` and ``grad_weight``: its three products, each scaled by its layer's density.
    ``selection`` holds scoring and recording passes, scaled likewise, and the passes that a pruner asks for, dense: on
    a calibration batch, on the validation split, on an input of ones. A second derivative counts its backward pass
    twice, the pass itself and the one through it, and so somewhat too little. ``evaluation`` is what dense kernels
    execute to look at the run (evaluation and support), and in none of the others.
    """

    dense: float = 0.0
    forward: float = 0.0
    grad_input: float = 0.0
    grad_weight: float = 0.0
    selection: float = 0.0
    evaluation: float = 0.0
    seconds: float = 0.0

    @property
    def sparse(self) -> float:
        """Theoretical cost of training alone: the three products together."""
        return self.forward + self.grad_input + self.grad_weight

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Ledger)})


def forward_flops(layers: Iterable[LayerMacs], density: Mapping[str, float] | None = None) -> float:
    """FLOP of one sample's forward pass. ``density`` by weight name, in [0, 1]; a layer that is not in it is dense."""
    return sum(2.0 * layer.macs * _density(layer, density) for layer in layers)


def training_flops(
    layers: Sequence[LayerMacs],
    samples: int,
    density: Mapping[str, float] | None = None,
    dense_gradient_samples: int = 0,
) -> Ledger:
    """Training on ``samples`` samples: forward, input-gradient and weight-gradient product of each layer.

    All three scale with the layer's density, but the weight gradient is dense for the ``dense_gradient_samples`` of
    those steps at which the pruner looks at the gradients of removed weights.
    Raises ``ValueError`` when these are not between 0 and ``samples``.
    """
    if not 0 <= dense_gradient_samples <= samples:
        got = f"dense_gradient_samples is {dense_gradient_samples} of {samples} samples"
        raise ValueError(f"{got}: give a number from 0 to {samples}")
    behind = [layer for layer in layers if not layer.first]
    dense, sparse = forward_flops(layers), forward_flops(layers, density)
    return Ledger(
        dense=samples * (2 * dense + forward_flops(behind)),
        forward=samples * sparse,
        grad_input=samples * forward_flops(behind, density),
        grad_weight=(samples - dense_gradient_samples) * sparse + dense_gradient_samples * dense,
    )


def scoring_flops(layers: Sequence[LayerMacs], samples: int, density: Mapping[str, float] | None = None) -> Ledger:
    """A forward pass for selection or recording: charged as sparse to ``selection``, as executed to ``dense``."""
    return Ledger(dense=samples * forward_flops(layers), selection=samples * forward_flops(layers, density))


def calibration_flops(layers: Sequence[LayerMacs], forward: int, backward: int) -> Ledger:
    """Passes that a pruner asks for, of so many samples: dense, as it may look at what is removed."""
    once = forward_flops(layers)
    cost = forward * once + backward * (training_flops(layers, 1).dense - once)
    return Ledger(dense=cost, selection=cost)


def relative(ledger: Ledger, dense_full: float) -> float:
    """Theoretical cost, selection included, over ``dense_full``: dense training on all N samples for all T epochs."""
    return (ledger.sparse + ledger.selection) / dense_full


def paper_relative(coreset_ratio: float, prune_rate: float) -> float:
    """SWaST's convention, alpha (1 - p): no warm-up, no selection, no dense gradients (our reading of its figures)."""
    return coreset_ratio * (1 - prune_rate)


def _density(layer: LayerMacs, density: Mapping[str, float] | None) -> float:
    return 1.0 if density is None or layer.name is None else density.get(layer.name, 1.0)


def measure(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[LayerMacs, ...]:
    """The layers' MACs in order of execution, by one forward pass of one image; the model is left as it was.

    Raises ``ValueError`` for a layer with a weight matrix that it cannot count, rather than count it as free, and when
    the model cannot take such an image.
    """
    was_training = {module: module.training for module in model.modules()}
    counter = _Counter(model)
    image = torch.zeros((1, *image_shape), device=next(model.parameters()).device)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Fused attention hides its products; the plain one shows them.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.eval()(image)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        shape, reason = " x ".join(map(str, image_shape)), " ".join(str(error).split())
        way = "set data.image_size, or choose another model"
        raise ValueError(f"the network cannot take images of {shape} ({reason}): {way}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in was_training.items():
            module.training = training
    _check_all_counted(model, {name for name, _ in counter.found})
    return tuple(LayerMacs(name, macs, first=place == 0) for place, (name, macs) in enumerate(counter.found))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects (weight name, MACs) of every product that torch executes, by the formulas of its own counter.

    It sees kernels, not modules: groups and depthwise convolutions come in the shape of the weight, a weight that a
    parent applies without calling its layer is seen all the same, and a product of two activations has no weight.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str | None, int]] = []
        # Kernels are given views of a weight, transposed or cut; what they have in common is the memory.
        self._names = {weight.untyped_storage().data_ptr(): name for name, weight in model.named_parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        output = func(*args, **(kwargs or {}))
        if formula is not None:
            self._add(self._weight(args), formula(*args, **(kwargs or {}), out_val=output) // 2)
        return output

    def _weight(self, args: tuple[Any, ...]) -> str | None:
        # A bias comes first in some kernels and last in others, but is no matrix.
        tensors = (value for value in args if isinstance(value, Tensor) and value.ndim > 1)
        return next((name for t in tensors if (name := self._names.get(t.untyped_storage().data_ptr()))), None)

    def _add(self, name: str | None, macs: int) -> None:
        """Uses of one weight in a row are one (projections of query, key and value)."""
        if self.found and self.found[-1][0] == name:
            macs += self.found.pop()[1]
        self.found.append((name, macs))


def _check_all_counted(model: nn.Module, counted: set[str | None]) -> None:
    for name, module in model.named_modules():
        matrices = [key for key, p in module.named_parameters(name, recurse=False) if p.ndim > 1]
        if matrices and not any(module.children()) and counted.isdisjoint(matrices):
            kind = type(module).__name__
            known = "convolutions, linear layers and attention"
            raise ValueError(f"cannot count the operations of {name or 'the model'} ({kind}): build it from {known}")
