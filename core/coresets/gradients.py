"""Gradients of the last layer, one per sample, never formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.coresets.inputs import error_of, present

if TYPE_CHECKING:
    from torch import Tensor

    from core.coresets.samples import Samples


@dataclass(frozen=True)
class Gradients:
    """(p - y) x [h, 1] of N samples in factored form: a matrix of C x (D + 1) each, the bias's column last.

    Their products are those of the factors: <g_i, g_j> = <e_i, e_j> (<h_i, h_j> + 1). A classifier without
    a bias, which hardly any architecture has, counts as if it had one.
    """

    error_NC: Tensor
    features_ND: Tensor

    @staticmethod
    def of(samples: Samples) -> Gradients:
        """The gradients of ``samples``. Raises ``ValueError`` when they lack logits or features."""
        error_NC = error_of(present(samples.logits_NC, "logits"), samples.labels_N)
        return Gradients(error_NC, present(samples.features_ND, "features"))

    def __len__(self) -> int:
        return len(self.error_NC)

    def __getitem__(self, index: Tensor) -> Gradients:
        return Gradients(self.error_NC[index], self.features_ND[index])

    def double(self) -> Gradients:
        """The same in double precision."""
        return Gradients(self.error_NC.double(), self.features_ND.double())

    def total(self) -> Tensor:
        """The sum of all, C x (D + 1)."""
        import torch

        return torch.cat([self.error_NC.T @ self.features_ND, self.error_NC.sum(0)[:, None]], 1)

    def norms(self) -> Tensor:
        """The norm of each."""
        # Not the root of the squares' product, which overflows earlier.
        length_N: Tensor = self.features_ND.norm(dim=1).square().add(1).sqrt()
        norm_N: Tensor = self.error_NC.norm(dim=1) * length_N
        return norm_N

    def onto(self, matrix_CD: Tensor) -> Tensor:
        """The inner product of each with a matrix of C x (D + 1)."""
        import torch

        outputs_NC = torch.addmm(matrix_CD[:, -1], self.features_ND, matrix_CD[:, :-1].T)
        return (self.error_NC * outputs_NC).sum(1)

    def with_one(self, i: int) -> Tensor:
        """The inner product of each with the gradient of sample ``i``."""
        return (self.error_NC @ self.error_NC[i]) * (self.features_ND @ self.features_ND[i] + 1)

    def distances(self, index_K: Tensor) -> Tensor:
        """Euclidean distances of some to all, K x N; exactly 0 to itself."""
        import torch

        squares_N = self.norms().square()
        found_KN = (self.features_ND[index_K] @ self.features_ND.T).add_(1)
        found_KN.mul_(self.error_NC[index_K] @ self.error_NC.T)
        found_KN.mul_(-2).add_(squares_N).add_(squares_N[index_K, None]).clamp_min_(0).sqrt_()
        found_KN[torch.arange(len(index_K), device=index_K.device), index_K] = 0
        return found_KN
