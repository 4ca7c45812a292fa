"""The protocol that every pruner follows, and what it is shown.

The trainer calls ``init`` once before epoch 1 and ``step`` after every backward pass, before the optimizer's step.
Both return the method's own state and ``None`` (all stays), a new mask, or a surgery. The trainer does the rest for
every method alike. After a mask it counts what was removed and grown, sets removed and grown weights and their momentum
to zero, and keeps removed weights at zero; a weight that a new mask keeps has its value and momentum untouched. After a
surgery the network, its gradients and the optimizer's momentum are smaller, and every pass costs less from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.pruning.couplings import Structure
    from core.pruning.cuts import Surgery
    from core.pruning.scope import Group

    Mask: TypeAlias = Mapping[str, Tensor]
    State: TypeAlias = Mapping[str, Tensor]
    LossAt: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor]
    Change: TypeAlias = "Mask | Surgery"

Removal: TypeAlias = Literal["weights", "channels", "hidden units", "ranks"]

CALIBRATION = 256
"""Samples of the calibration batch that pruners may look at; all of a smaller training set."""


@dataclass(frozen=True)
class Moment:
    """Where in the run a call happens. Epochs count from 1 (0 at init), steps from 0."""

    epoch: int
    epochs: int
    step: int
    """Optimizer steps taken so far in the whole run."""
    step_in_epoch: int
    steps_in_epoch: int
    select_every: int
    first_selection: int

    @property
    def progress(self) -> float:
        """(t - 1) / T, in [0, 1): the schedule position that all cells share, whatever their coreset size."""
        return max(0, self.epoch - 1) / self.epochs

    @property
    def ends_epoch(self) -> bool:
        """Whether this is the last step of its epoch."""
        return self.step_in_epoch == self.steps_in_epoch - 1


@dataclass(frozen=True)
class Passes:
    """How often a pruner sends samples through the network beside the training steps; ``samples`` each time."""

    forward: int = 0
    backward: int = 0
    samples: Literal["calibration", "validation", "one"] = "calibration"


class Probe(Protocol):
    """What the network answers when a pruner asks. Every pass is computed when asked for, and charged.

    The calibration batch is a fixed draw of ``CALIBRATION`` samples from the whole training set. It passes in training
    mode, which leaves the batch-norm statistics as they are. ``weights`` stand in place of the stored ones; what is
    returned can be differentiated in them.
    """

    @property
    def labels(self) -> Tensor:
        """Labels of the calibration batch."""

    def loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy of the calibration batch."""

    def logits(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits of the calibration batch, B x C."""

    def features(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The classifier's inputs on the calibration batch, B x D."""

    def inputs(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """By weight, what its layer reads of the calibration batch: the mean over positions, B x inputs, no gradient.

        A layer that its parent applies without calling it (attention's output projection) is missing.
        """

    def flow(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The sum of the logits of an input of ones, in evaluation mode and double precision.

        ``weights`` and all other parameters and statistics count by their absolute values.
        """

    def validation_loss(self, weights: Mapping[str, Tensor]) -> float:
        """Mean cross-entropy of the validation split, in evaluation mode."""

    def structure(self) -> Structure:
        """A copy of the network in evaluation mode, to be taken apart."""


@dataclass(frozen=True)
class View:
    """What a pruner may read. Weights are named like the model's parameters; nothing here may be changed in place."""

    moment: Moment
    groups: tuple[Group, ...]
    weights: Mapping[str, Tensor]
    """The stored weights of every layer in ``groups``, detached, on the device."""
    gradients: Mapping[str, Tensor]
    """Dense gradient of the batch loss with respect to the stored weights; empty at init."""
    mask: Mask
    """Boolean, True = kept, one entry per layer in ``groups``."""
    probe: Probe
    """Passes of a calibration batch, of the validation split, of an input of ones; a copy to take apart."""
    generator: Callable[[], torch.Generator]
    """A CPU generator of this moment's own; the same at every call."""


class Pruner:
    """A rule that decides which weights stay. Subclasses are plug-ins; their fields are their hyper-parameters."""

    name: str
    semantics_version: ClassVar[int] = 1
    """Raised whenever the same hyper-parameters give different results; part of the cache key."""
    distribution: ClassVar[str] = ""
    """Name and version of the package that brings it, where that is another one; part of the cache key."""
    source: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    dense_gradient: ClassVar[Literal["never", "updates", "always"]] = "never"
    """When a sparse implementation would need the gradient of pruned weights too; decides the theoretical cost."""
    removes: ClassVar[Removal] = "weights"
    """What leaves as a whole. All but weights leave for good, and the network shrinks."""
    learns_forward: ClassVar[bool] = False
    """True when training runs through ``forward_weights``: stored weights stay dense, the mask acts in evaluation."""
    cost: ClassVar[str] = "nothing beside the training steps"
    """In a line, what it computes or holds beside the training steps."""
    needs: ClassVar[frozenset[Literal["validation"]]] = frozenset()
    """Data beside the training set that it looks at; cells without them are refused."""
    when: ClassVar[str] = ""
    """In a line, when it acts."""
    tensors_per_weight: ClassVar[int] = 0
    """How many tensors like the weights its state holds."""

    @property
    def shrinks(self) -> bool:
        """Whether it cuts the network smaller, where others only mask it."""
        return self.removes != "weights"

    def init(self, view: View) -> tuple[State, Change | None]:
        """State and mask, or surgery, before the first epoch. ``None`` keeps the dense network."""
        raise NotImplementedError

    def check(self, structure: Structure, groups: Sequence[Group]) -> None:
        """Raises ``ValueError`` where a network holds too little that it could remove. Planning asks, and ``init``."""

    def foretold(self, structure: Structure, groups: Sequence[Group], position: float) -> Mapping[str, float]:
        """Share of each weight of a shrinking network that is left at ``position`` of the rate; 1 where none is told.

        Exact where all layers lose the same share of their channels.
        """
        return {}

    def position(self, moment: Moment) -> float:
        """Share of its rates, in [0, 1], that is due in the epoch of ``moment``; by default all, before the first step.

        A plan foretells densities by it, and costs.
        """
        return 1.0

    def updates(self, moment: Moment) -> int:
        """How many steps of the epoch that begins with ``moment`` decide anew; by default none. A plan asks."""
        return 0

    def step(self, state: State, view: View) -> tuple[State, Change | None]:
        """State and mask, or surgery, after a backward pass. The default keeps both."""
        return state, None

    def forward_weights(
        self, state: State, weights: Mapping[str, Tensor], moment: Moment, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The weights that the training forward pass uses, differentiable in ``state`` and ``weights``.

        The method itself marks the state tensors it learns with ``requires_grad_()``; backward fills their ``.grad``,
        which the next ``step`` reads before it returns fresh tensors. So plain tensors, as a checkpoint holds them, are
        a complete state.
        """
        return weights

    def reads(self) -> frozenset[str]:
        """Fields of the cell, beside its rates and scope, that change what this pruner does."""
        return frozenset()

    def acts_from(self, epochs: int, first_selection: int) -> int:
        """The first of ``epochs`` that its rates can touch; everything before is the same at any rate."""
        return 1

    def passes_at_init(self) -> Passes:
        """What ``init`` asks of the probe."""
        return Passes()

    def passes_at_update(self) -> Passes:
        """What ``step`` asks of the probe whenever it decides."""
        return Passes()
