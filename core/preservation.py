"""State preservation: stay close to what the model predicted on the coreset when it was chosen. arXiv 2511.09901.

A term lambda * mean over the batch of KL(softmax(z) || softmax(f(x))) joins the loss, z being the logits recorded at
the last selection; no temperature. Our reading: the mean, where the paper prints a sum, which
would scale with the coreset.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import choice, named, plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preserved:
    """What was recorded of M coreset samples out of the N of the training set, found by data-set index."""

    log_probs_MC: Tensor
    row_N: Tensor
    """The row of ``log_probs_MC`` that belongs to each sample; 0 where there is none."""
    keep_N: Tensor
    """Whether a sample has a row and takes part."""

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name; ``Preserved(**tensors)`` is the inverse."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Preserver:
    """Which coreset samples keep their recorded prediction. Subclasses are plug-ins."""

    name: str
    semantics_version: ClassVar[int] = 1
    source: ClassVar[str] = "arXiv 2511.09901"
    summary: ClassVar[str] = ""

    def keeps(self, labels_M: Tensor, logits_MC: Tensor) -> Tensor:
        """Which of the recorded samples take part (M, bool)."""
        raise NotImplementedError

    def record(self, index_M: Tensor, labels_M: Tensor, logits_MC: Tensor, num_samples: int) -> Preserved:
        """Keep the predictions on the coreset; ``index_M`` counts in the training set of ``num_samples``."""
        import torch

        rows = torch.arange(len(index_M), device=index_M.device)
        row_N = rows.new_zeros(num_samples).index_put((index_M,), rows)
        keep_N = row_N.new_zeros(num_samples).bool().index_put((index_M,), self.keeps(labels_M, logits_MC))
        return Preserved(logits_MC.detach().log_softmax(1), row_N, keep_N)

    def penalty(self, preserved: Preserved, index_B: Tensor, logits_BC: Tensor) -> Tensor:
        """Mean over the batch of KL(recorded || current), >= 0, in nats. Samples that take no part contribute 0."""
        recorded_BC = preserved.log_probs_MC[preserved.row_N[index_B]]
        divergence_B = (recorded_BC.exp() * (recorded_BC - logits_BC.log_softmax(1))).sum(1)
        return divergence_B.where(preserved.keep_N[index_B], 0).mean()


@plugin
class NoPreservation(Preserver):
    """No sample takes part; a trainer need not record at all."""

    name: Literal["none"] = "none"

    summary: ClassVar[str] = "nothing is preserved"

    @override
    def keeps(self, labels_M: Tensor, logits_MC: Tensor) -> Tensor:
        return labels_M.new_zeros(len(labels_M)).bool()


@plugin
class Selective(Preserver):
    """Only samples that the recorded state classified correctly. Our reading: still the mean over the whole batch."""

    name: Literal["selective"] = "selective"

    summary: ClassVar[str] = "predictions on coreset samples that were classified correctly"

    @override
    def keeps(self, labels_M: Tensor, logits_MC: Tensor) -> Tensor:
        return logits_MC.argmax(1) == labels_M


@plugin
class Complete(Preserver):
    """Every coreset sample, misclassified ones too: the paper's choice."""

    name: Literal["complete"] = "complete"

    summary: ClassVar[str] = "predictions on all coreset samples"

    @override
    def keeps(self, labels_M: Tensor, logits_MC: Tensor) -> Tensor:
        return labels_M.new_ones(len(labels_M)).bool()


PRESERVERS: dict[str, type[Preserver]] = named((NoPreservation, Selective, Complete))

if TYPE_CHECKING:
    PreserverChoice = Preserver
else:
    PreserverChoice = choice(PRESERVERS)
