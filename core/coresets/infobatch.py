"""InfoBatch: drop well-learnt samples at random, and let the others of them stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import highest
from core.coresets.samples import Coreset, Need, Samples, Selector
from core.plugin import Fraction, plugin

if TYPE_CHECKING:
    import torch

BELOW_MEAN = 0.8
"""What a plan takes for the share of the losses that lie below their mean; 0.80 to 0.84 on digits, 12 runs."""


@plugin
class InfoBatch(Selector):
    """Of the n samples whose last loss is below the mean, keep a random int((1 - r) n), weighted 1 / (1 - r).

    All others are kept with weight 1, those that were never trained on too. Past ``until``, a fraction of the epochs,
    everything is kept. Our readings: r = 1 - alpha, with alpha the share that a whole number of samples comes to, so a
    coreset holds alpha of the samples below the mean and all above it, more than alpha of all; and weights are
    relative, as those of every coreset here (the loss is the weighted mean of a batch), where the original divides by
    the batch size, which lengthens the steps by the mean weight too.
    """

    name: Literal["infobatch"] = "infobatch"
    until: Fraction = 0.875
    """Of the epochs: past it all samples are kept."""

    summary: ClassVar[str] = "every epoch: a random share of the samples with less than the mean loss, and all others"
    source: ClassVar[str] = "Qin et al. 2024, arXiv 2303.04947"
    cost: ClassVar[str] = "no pass: reads what training has noted; trains on more than alpha of the samples"
    when: ClassVar[str] = "in every epoch after the warm-up, by default none"
    needs: ClassVar[frozenset[Need]] = frozenset({"history"})
    exact_size: ClassVar[bool] = False
    online: ClassVar[bool] = True

    @override
    def share(self, ratio: float, progress: float) -> float:
        return ratio if progress <= self.until else 1.0

    @override
    def foretold(self, ratio: float, progress: float) -> float:
        return 1 - (1 - self.share(ratio, progress)) * BELOW_MEAN

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        loss_N = present(samples.loss_N, "history").double()
        total = len(loss_N)
        if size > total:
            raise ValueError(f"cannot choose {size} of {total} samples")
        # No comparison holds for what was never trained on, which is NaN.
        below = (loss_N < loss_N[loss_N.isfinite()].mean()).nonzero().flatten()
        draw_N = torch.rand(total, generator=rng, dtype=torch.float64).to(loss_N.device)
        survivors = below[highest(draw_N[below], size * len(below) // total)]
        weight_N = torch.ones_like(loss_N).index_fill(0, below, 0).index_fill(0, survivors, total / max(size, 1))
        index_M = weight_N.nonzero().flatten()
        if len(index_M) == total:
            return Coreset(index_M)
        weight_M = weight_N[index_M]
        return Coreset(index_M, (weight_M / weight_M.mean()).float())
