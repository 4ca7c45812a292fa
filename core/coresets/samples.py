"""What a selector is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, TypeAlias

from pydantic import Field

from core.plugin import Flag

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.pruning.couplings import Structure
    from core.pruning.cuts import Surgery

    State: TypeAlias = Mapping[str, Tensor]

Balanced: TypeAlias = Annotated[Flag, Field(description="Every class keeps its quota of samples; else none does.")]
Need: TypeAlias = Literal["logits", "features", "history", "validation", "coreset", "network"]
"""``validation``: the validation split too, seen as the other needs say; refused for cells without one."""


@dataclass(frozen=True)
class Copy:
    """A copy of the network that was cut smaller and trained: what was cut, its tensors, and its logits."""

    surgery: Surgery
    tensors: Mapping[str, Tensor]
    """Its parameters and buffers, named as in the network."""
    logits_NC: Tensor
    """Of the training set."""


class Apart(Protocol):
    """What a selector may do with copies of the network. Every pass is computed when asked for, and charged."""

    def structure(self) -> Structure:
        """A copy in evaluation mode, to be taken apart."""

    def trained(self, surgery: Surgery, epochs: int, rng: torch.Generator) -> Copy:
        """A copy without what the surgery removes, trained for ``epochs`` over the training set."""


@dataclass(frozen=True)
class Beside:
    """What a selection trains beside the network: a copy with this share of each weight (1 where none is told)."""

    left: Mapping[str, float]
    epochs: int


@dataclass(frozen=True)
class Samples:
    """The training set as the current sparse model sees it, computed once for every selector, in chunks.

    N samples, C classes, D penultimate features. Model outputs are of the evaluation mode, without augmentation.
    A tensor that the selector did not list in ``needs`` is ``None``.
    """

    labels_N: Tensor
    num_classes: int
    logits_NC: Tensor | None = None
    features_ND: Tensor | None = None
    loss_N: Tensor | None = None
    """Loss of each sample the last time it was trained on; NaN when it never was."""
    correct_N: Tensor | None = None
    """Whether each sample was classified correctly then; False when it never was trained on."""
    forgotten_N: Tensor | None = None
    """How often each sample went from correct to wrong between two of its training passes so far."""
    margin_N: Tensor | None = None
    """p of the label minus the largest other p, in [-1, 1], mean over the training passes so far; NaN without any."""
    validation: Samples | None = None
    """The validation split as the same model sees it; it has no history."""
    entropy_N: Tensor | None = None
    """Entropy of each sample's prediction the last time it was trained on, in nats; NaN when it never was."""
    kept_N: Tensor | None = None
    """Whether each sample is in the coreset so far: all are before the first selection."""
    state: State = field(default_factory=dict)
    """What this selector gave back with its last coreset; empty before its first."""
    apart: Apart | None = None
    """The network, for selectors that need copies of it."""


@dataclass(frozen=True)
class Coreset:
    """Chosen samples: unique data-set indices in ascending order and, for weighted methods, weights of mean 1."""

    index_M: Tensor
    weight_M: Tensor | None = None
    state: State = field(default_factory=dict)
    """What the selector is to be shown at its next selection: plain tensors, which a checkpoint keeps."""
    copy: Copy | None = None
    """Its weights take the place in the network that they were cut from; preservation records its predictions."""


def check_chosen(index_M: Tensor, size: int, total: int, selector: Selector) -> None:
    """Raises ``ValueError`` for what is no coreset of ``size`` of ``total`` samples, as another package may return."""
    chosen = index_M.sort().values
    once = int((chosen.diff() > 0).sum()) + min(1, len(chosen))
    wrong = ""
    if once != len(chosen):
        wrong = f"{len(chosen) - once} samples more than once; a coreset holds each once"
    elif len(chosen) and not 0 <= int(chosen[0]) <= int(chosen[-1]) < total:
        wrong = f"samples {int(chosen[0])} to {int(chosen[-1])} of 0 to {total - 1}; return indices of the training set"
    elif not len(chosen) or (selector.exact_size and len(chosen) != size):
        wrong = f"{len(chosen)} samples where {size} were asked of it; return {size}, or set exact_size = False"
    if wrong:
        raise ValueError(f"selector {selector.name} returned {wrong}")


@dataclass(frozen=True)
class Sizes:
    """How large a choice is: so many of ``samples`` are ``chosen``, by logits of ``classes`` and ``features``."""

    samples: int
    chosen: int
    classes: int
    features: int
    validation: int
    """Samples of the validation split."""


class Selector:
    """A rule that chooses training samples. Subclasses are plug-ins; their fields are their hyper-parameters."""

    name: str
    semantics_version: ClassVar[int] = 1
    distribution: ClassVar[str] = ""
    """Name and version of the package that brings it, where that is another one; part of the cache key."""
    source: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    exact_size: ClassVar[bool] = True
    """Whether it returns as many samples as it is asked for."""
    online: ClassVar[bool] = False
    """Whether it chooses in every epoch after the warm-up, which is 0 where left open, and not in every R-th."""
    tensors_per_sample: ClassVar[int] = 0
    """How many float32 numbers per sample its state holds."""
    cost: ClassVar[str] = "no pass"
    """In a line, what one selection computes."""
    when: ClassVar[str] = "in every R-th epoch after the warm-up"
    """In a line, when it chooses anew."""

    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        """Choose ``size`` of the N samples.

        ``progress`` is t / T at the selection epoch t, in (0, 1]. ``rng`` is a CPU generator of this epoch's own.
        """
        raise NotImplementedError

    def arithmetic(self, sizes: Sizes) -> float:
        """FLOP of one choice beside its passes: matrix products, distances and norms, 2 per multiply-add.

        Of classes that are equally large.
        """
        return 0.0

    @property
    def teaches(self) -> bool:
        """Whether its coresets bring a copy, whose predictions preservation records."""
        return False

    def check(self, structure: Structure) -> None:
        """Raises ``ValueError`` for a network that it cannot take apart. Planning asks."""

    def beside(self, structure: Structure) -> Beside | None:
        """What one selection trains beside such a network, foretold; ``None``: nothing."""
        return None

    def share(self, ratio: float, progress: float) -> float:
        """The share of the samples that is asked of it at ``progress``, where alpha is ``ratio``; both in (0, 1]."""
        return ratio

    def foretold(self, ratio: float, progress: float) -> float:
        """About the share that it then returns; another one only where the size is not exact."""
        return self.share(ratio, progress)
