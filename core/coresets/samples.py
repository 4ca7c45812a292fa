"""What a selector is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Need: TypeAlias = Literal["logits", "features", "history", "validation"]
"""``validation``: the validation split too, seen as the other needs say; refused for cells without one."""


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


@dataclass(frozen=True)
class Coreset:
    """Chosen samples: unique data-set indices in ascending order and, for weighted methods, weights of mean 1."""

    index_M: Tensor
    weight_M: Tensor | None = None


class Selector:
    """A rule that chooses training samples. Subclasses are plug-ins; their fields are their hyper-parameters."""

    name: str
    semantics_version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    exact_size: ClassVar[bool] = True
    cost: ClassVar[str] = "no pass"
    """In a line, what one selection computes."""

    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        """Choose ``size`` of the N samples.

        ``progress`` is t / T at the selection epoch t, in (0, 1]. ``rng`` is a CPU generator of this epoch's own.
        """
        raise NotImplementedError
