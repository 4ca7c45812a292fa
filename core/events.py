"""What a run says, as frozen values in the order in which things happen.

    for epoch in 1..T:
        if a selection is due (or the skip schedule's random start):
            choose X from the full training set             -> CoresetSelected
            record the state of the coreset's logits        -> StateRecorded      (with state preservation)
            measure what left with the samples             -> SupportMeasured
        for each batch of X:
            forward, loss, backward
            the pruner's step, on its own schedule          -> MaskChanged        (when weights left or grew)
            optimizer step
        evaluate, where it is due                           -> EpochEnded
        the loss is not finite                              -> Diverged           (the run ends here)

Sizes are counts, times seconds, costs FLOP, accuracies in [0, 1], losses in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from core.flops import Ledger


@dataclass(frozen=True)
class CoresetSelected:
    """The training set of the coming epochs changed at the start of this one."""

    epoch: int
    size: int
    removed: int
    """Samples of the training set of the epoch before that are not in the new one."""
    added: int
    noise_ratio: float | None
    """Share of chosen samples whose label was flipped; ``None`` without label noise."""
    seconds: float
    due: bool
    """Whether the switch stands out: it is the first, or R makes it due. Between them an online selector exchanges."""


@dataclass(frozen=True)
class Support:
    """What a switch did. A number is NaN where there is nothing to compare with: no removed weight, no such class."""

    lost: float
    """Lambda = max over the classes c of 1 - min(1, support of c in the coreset / its fair share), in [0, 1].

    The support of c is the sum over its samples of the gradient's norm on the removed weights; the fair share is
    alpha times that of the whole training set. So it is the share of a class's signal for reviving removed weights
    that left with its samples.
    """
    lost_by_class: tuple[float, ...]
    lost_random: float
    """Lambda of a random coreset of the same size: what chance alone takes."""
    shock: float
    """Norm of the mean gradient on the live weights, of the coreset over that of the training set."""
    class_imbalance: float
    """Total variation between the class shares of the coreset and those of the training set, in [0, 1]."""
    samples: int
    """Samples whose gradients were taken."""


@dataclass(frozen=True)
class SupportMeasured:
    """What the switch at the start of this epoch took from the weights."""

    epoch: int
    support: Support
    seconds: float


@dataclass(frozen=True)
class StateRecorded:
    """The logits of the coreset were recorded for state preservation."""

    epoch: int
    size: int


@dataclass(frozen=True)
class LayerChange:
    """One layer's part of a mask change."""

    removed: int
    grown: int
    density: float


@dataclass(frozen=True)
class MaskChanged:
    """The pruner removed or grew weights before this optimizer step (step 0 of epoch 0: at initialisation).

    Masked ones, or some that are cut out with their channels; densities are shares of the layer as it was built.
    """

    epoch: int
    step: int
    removed: int
    grown: int
    layers: dict[str, LayerChange]


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy of the effective (masked) model on one split."""

    loss: float
    accuracy: float
    class_accuracy: tuple[float, ...]
    """Recall per class; NaN for a class that the split does not hold."""


@dataclass(frozen=True)
class EpochEnded:
    """One epoch is over."""

    epoch: int
    trained: int
    """Samples trained on; 0 in an idle epoch of the skip schedule."""
    lr: float
    loss_train: float | None
    loss_preservation: float | None
    """The unweighted preservation term; ``None`` while nothing is recorded."""
    noisy_clean_loss: float | None
    """Mean loss of mislabelled over mean loss of clean samples of the training pass."""
    density: float
    """Share of live weights among all prunable weights of the model, in (0, 1]."""
    dead_layers: int
    test: Evaluation | None
    """``None`` after an epoch that is not evaluated; so is ``val``, and where there is no validation split."""
    val: Evaluation | None
    cost: Ledger
    """This epoch's cost alone."""
    full_cost: float
    """FLOP of one epoch of dense training on all N samples: the yardstick of relative cost."""
    seconds_prune: float
    seconds_select: float
    seconds: float


@dataclass(frozen=True)
class Diverged:
    """A loss of the epoch, of training or evaluation, was not finite. ``EpochEnded`` came before; nothing follows."""

    epoch: int
    reason: str


Event: TypeAlias = CoresetSelected | SupportMeasured | StateRecorded | MaskChanged | EpochEnded | Diverged
