"""What every sample's last training pass said: kept always, so that any selector can follow a shared trunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class History:
    """Per training sample: the loss (NaN = never trained on), whether it was correct, how often it was forgotten."""

    loss_N: Tensor
    correct_N: Tensor
    forgotten_N: Tensor

    @staticmethod
    def empty(samples: int, device: torch.device) -> History:
        """No sample was trained on yet."""
        return History(
            loss_N=torch.full((samples,), float("nan"), device=device),
            correct_N=torch.zeros(samples, dtype=torch.bool, device=device),
            forgotten_N=torch.zeros(samples, dtype=torch.int32, device=device),
        )

    def after(self, index_M: Tensor, loss_M: Tensor, correct_M: Tensor) -> History:
        """The history after a pass over the samples ``index_M``, each seen once."""
        forgotten = (self.correct_N[index_M] & ~correct_M).to(torch.int32)
        return History(
            loss_N=self.loss_N.index_put((index_M,), loss_M),
            correct_N=self.correct_N.index_put((index_M,), correct_M),
            forgotten_N=self.forgotten_N.index_add(0, index_M, forgotten),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, for a checkpoint."""
        return dict(vars(self))
