"""GradMatch: weighted samples whose summed gradient matches that of all."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import error_of, present
from core.coresets.pursuit import pursue
from core.coresets.ranking import classes, highest
from core.coresets.samples import Coreset, Need, Samples, Selector
from core.plugin import Count, Flag, NonNegative, plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK = 8192


@plugin
class GradMatch(Selector):
    """Orthogonal matching pursuit on last-layer gradients (p - y) x [h, 1], kept in factored form.

    ``per: class`` matches every class's gradient sum with its quota of samples and a ridge of ``ridge`` times the mean
    squared norm, or ``ridge`` itself when ``absolute``. ``per: batch`` matches the sum of all by random batches of
    ``batch_size``, without a ridge, and cuts the last batch to size. A shortfall is filled at random with weight 1, the
    weight a sample has in the full sum; then all weights are scaled to mean 1.
    Our readings: a picked sample is not picked twice, the original stops there; the scaling of the ridge.
    """

    name: Literal["gradmatch"] = "gradmatch"
    per: Literal["class", "batch"] = "class"
    ridge: NonNegative = 0.5
    absolute: Flag = False
    batch_size: Count = 128

    summary: ClassVar[str] = "weighted samples that match the full gradient of the last layer"
    source: ClassVar[str] = "Killamsetty et al. 2021, arXiv 2103.00123"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        labels_N = samples.labels_N
        error_NC = error_of(present(samples.logits_NC, "logits"), labels_N)
        features_ND = present(samples.features_ND, "features")
        if self.per == "batch":
            weight_N = filled(self._by_batch(error_NC, features_ND, size, rng), size, rng)
        else:
            weight_N = torch.zeros(len(labels_N), dtype=torch.float64, device=labels_N.device)
            for index, quota in classes(labels_N, samples.num_classes, size):
                own = self._by_sample(error_NC[index].double(), with_bias(features_ND[index]), quota)
                weight_N[index] = filled(own, quota, rng)
        index_M = weight_N.nonzero().flatten()
        weight_M = weight_N[index_M]
        return Coreset(index_M, (weight_M / weight_M.mean()).float())

    def _by_sample(self, error_NC: Tensor, features_ND: Tensor, picks: int) -> Tensor:
        """The weight of each sample, 0 for those not picked, so that at most ``picks`` match the sum of all."""
        target_N = products(error_NC, features_ND, error_NC.T @ features_ND)

        def column(j: int) -> Tensor:
            return (error_NC @ error_NC[j]) * (features_ND @ features_ND[j])

        squares_N = error_NC.square().sum(1) * features_ND.square().sum(1)
        ridge = self.ridge if self.absolute else self.ridge * float(squares_N.mean())
        index, weight = pursue(target_N, column, picks, ridge)
        return target_N.new_zeros(len(target_N)).index_put((index,), weight)

    def _by_batch(self, error_NC: Tensor, features_ND: Tensor, size: int, rng: torch.Generator) -> Tensor:
        """The weight of each sample: that of its batch, for at most ``size`` samples of the batches picked."""
        import torch

        order_N = torch.randperm(len(error_NC), generator=rng).to(error_NC.device)
        batches = torch.split(order_N, self.batch_size)

        def column(matrix_CD: Tensor) -> Tensor:
            parts = [products(error_NC[b].double(), with_bias(features_ND[b]), matrix_CD).sum() for b in batches]
            return torch.stack(parts)

        def gradient(b: Tensor) -> Tensor:
            return error_NC[b].double().T @ with_bias(features_ND[b])

        target = column(functools.reduce(torch.add, map(gradient, batches)))
        picks = min(-(-size // self.batch_size), len(batches))
        index, weight = pursue(target, lambda j: column(gradient(batches[j])), picks, ridge=0.0)
        weight_N = target.new_zeros(len(error_NC))
        room = size
        for j, value in zip(index.tolist(), weight, strict=True):
            weight_N[batches[j][:room]] = value
            room -= len(batches[j][:room])
        return weight_N


def with_bias(features_ND: Tensor) -> Tensor:
    """[h, 1] in double precision: the bias's gradient is that of a feature that is always 1."""
    from torch.nn.functional import pad

    return pad(features_ND.double(), (0, 1), value=1.0)


def products(error_NC: Tensor, features_ND: Tensor, matrix_CD: Tensor) -> Tensor:
    """The inner product of every sample's gradient, error x features, with ``matrix_CD``; in chunks."""
    import torch

    chunks = zip(torch.split(error_NC, CHUNK), torch.split(features_ND, CHUNK), strict=True)
    return torch.cat([((error @ matrix_CD) * features).sum(1) for error, features in chunks])


def filled(weight_N: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """``weight_N`` with weight 1 at random samples of weight 0, so that ``size`` have a weight."""
    import torch

    score_N = torch.rand(len(weight_N), generator=rng, dtype=torch.float64).to(weight_N.device)
    chosen = highest(score_N.masked_fill(weight_N > 0, 2), size)
    weight_M = weight_N[chosen]
    return weight_N.index_put((chosen,), weight_M.where(weight_M > 0, 1))
