"""What every sample's last training pass said: kept always, so that any selector can follow a shared trunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class History:
    """Per training sample: the loss (NaN = never trained on), whether it was correct, how often it was forgotten.

    ``margins_N`` is the sum of its margins over the ``passes_N`` training passes so far; ``entropy_N`` is of its last
    prediction, in nats (NaN = never trained on).
    """

    loss_N: Tensor
    correct_N: Tensor
    forgotten_N: Tensor
    margins_N: Tensor
    passes_N: Tensor
    entropy_N: Tensor

    @staticmethod
    def empty(samples: int, device: torch.device) -> History:
        """No sample was trained on yet."""
        return History(
            loss_N=torch.full((samples,), float("nan"), device=device),
            correct_N=torch.zeros(samples, dtype=torch.bool, device=device),
            forgotten_N=torch.zeros(samples, dtype=torch.int32, device=device),
            margins_N=torch.zeros(samples, device=device),
            passes_N=torch.zeros(samples, dtype=torch.int32, device=device),
            entropy_N=torch.full((samples,), float("nan"), device=device),
        )

    def mean_margin(self) -> Tensor:
        """Of every sample; NaN = never trained on."""
        return self.margins_N / self.passes_N

    def after(self, index_M: Tensor, loss_M: Tensor, correct_M: Tensor, margin_M: Tensor, entropy_M: Tensor) -> History:
        """The history after a pass over the samples ``index_M``, each seen once."""
        forgotten = (self.correct_N[index_M] & ~correct_M).to(torch.int32)
        return History(
            loss_N=self.loss_N.index_put((index_M,), loss_M),
            correct_N=self.correct_N.index_put((index_M,), correct_M),
            forgotten_N=self.forgotten_N.index_add(0, index_M, forgotten),
            margins_N=self.margins_N.index_add(0, index_M, margin_M),
            passes_N=self.passes_N.index_add(0, index_M, torch.ones_like(forgotten)),
            entropy_N=self.entropy_N.index_put((index_M,), entropy_M),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, for a checkpoint."""
        return dict(vars(self))


def margin(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The probability of the label minus the largest other one, in [-1, 1]."""
    p_BC = logits_BC.softmax(1)
    own_B = p_BC.gather(1, labels_B[:, None])[:, 0]
    return own_B - p_BC.scatter(1, labels_B[:, None], 0).amax(1)


def entropy(logits_BC: Tensor) -> Tensor:
    """Of the predicted distributions, in nats."""
    entropy_B: Tensor = torch.special.entr(logits_BC.softmax(1)).sum(1)
    return entropy_B
