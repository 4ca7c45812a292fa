"""What a run computes: ledgers of floating-point operations, from the multiply-accumulates of every layer.

One MAC is 2 FLOP. Convolutions, linear layers and attention count; normalisation, activations, pooling, biases and
the optimizer do not (under 1 % of a residual network). Torch's own counter is blind to masks, so sparse costs are
computed here: a layer whose weights have density d costs d times its dense cost, on hardware that could use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields


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
    ``selection`` holds scoring and recording passes, scaled likewise; what a selector computes beside them (products of
    matrices, distances); and the passes that a pruner asks for, dense: on a calibration batch, on the validation split,
    on an input of ones. A second derivative counts its backward pass twice, the pass itself and the one through it, and
    so somewhat too little. ``evaluation`` is what dense kernels execute to look at the run (evaluation and support),
    and in none of the others.
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
