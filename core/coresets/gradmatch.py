"""GradMatch: weighted samples whose summed gradient matches that of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.gradients import Gradients
from core.coresets.pursuit import pursue
from core.coresets.ranking import classes, highest
from core.coresets.samples import Coreset, Need, Samples, Selector, Sizes
from core.plugin import Count, Flag, NonNegative, plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
    """Match every class's gradient sum by its samples, or the sum of all by random batches."""
    ridge: NonNegative = 0.5
    """Of the regression per class, times the mean squared norm of the gradients."""
    absolute: Flag = False
    """Whether the ridge is the number itself."""
    batch_size: Count = 128
    """Of the random batches that ``per: batch`` chooses among."""

    semantics_version: ClassVar[int] = 2
    summary: ClassVar[str] = "weighted samples that match the full gradient of the last layer"
    source: ClassVar[str] = "Killamsetty et al. 2021, arXiv 2103.00123"
    cost: ClassVar[str] = "a forward pass over the training set; a product with the gradients of the class per pick"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        labels_N, gradients = samples.labels_N, Gradients.of(samples)
        if self.per == "batch":
            weight_N = filled(self._by_batch(gradients.double(), size, rng), size, rng)
        else:
            weight_N = torch.zeros(len(labels_N), dtype=torch.float64, device=labels_N.device)
            for index, quota in classes(labels_N, samples.num_classes, size):
                weight_N[index] = filled(self._by_sample(gradients[index].double(), quota), quota, rng)
        index_M = weight_N.nonzero().flatten()
        weight_M = weight_N[index_M]
        return Coreset(index_M, (weight_M / weight_M.mean()).float())

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        errors, inputs = sizes.classes, sizes.features + 1
        if self.per == "batch":
            batches, chosen = -(-sizes.samples // self.batch_size), -(-sizes.chosen // self.batch_size)
            products = 2.0 * (chosen + 2) * sizes.samples * errors * inputs
            return products + batches * chosen**2 + 8 / 3 * chosen**3
        n, picks = sizes.samples / sizes.classes, sizes.chosen / sizes.classes
        pursuit = 2 * n * picks * (errors + inputs) + n * picks**2 + 8 / 3 * picks**3
        return 4.0 * sizes.samples * errors * inputs + sizes.classes * pursuit

    def _by_sample(self, gradients: Gradients, picks: int) -> Tensor:
        """The weight of each sample, 0 for those not picked, so that at most ``picks`` match the sum of all."""
        target_N = gradients.onto(gradients.total())
        ridge = self.ridge if self.absolute else self.ridge * float(gradients.norms().square().mean())
        index, weight = pursue(target_N, gradients.with_one, picks, ridge)
        return target_N.new_zeros(len(target_N)).index_put((index,), weight)

    def _by_batch(self, gradients: Gradients, size: int, rng: torch.Generator) -> Tensor:
        """The weight of each sample: that of its batch, for at most ``size`` samples of the batches picked."""
        import torch

        order_N = torch.randperm(len(gradients), generator=rng).to(gradients.error_NC.device)
        batches = torch.split(order_N, self.batch_size)

        def column(matrix_CD: Tensor) -> Tensor:
            product_N = gradients.onto(matrix_CD)
            return torch.stack([product_N[batch].sum() for batch in batches])

        target = column(gradients.total())
        picks = min(-(-size // self.batch_size), len(batches))
        index, weight = pursue(target, lambda j: column(gradients[batches[j]].total()), picks, ridge=0.0)
        weight_N = target.new_zeros(len(gradients))
        room = size
        for j, value in zip(index.tolist(), weight, strict=True):
            weight_N[batches[j][:room]] = value
            room -= len(batches[j][:room])
        return weight_N


def filled(weight_N: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """``weight_N`` with weight 1 at random samples of weight 0, so that ``size`` have a weight."""
    import torch

    score_N = torch.rand(len(weight_N), generator=rng, dtype=torch.float64).to(weight_N.device)
    chosen = highest(score_N.masked_fill(weight_N > 0, 2), size)
    weight_M = weight_N[chosen]
    return weight_N.index_put((chosen,), weight_M.where(weight_M > 0, 1))
