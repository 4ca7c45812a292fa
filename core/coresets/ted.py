"""TED: samples whose leaving would change most what training on the rest does for those left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.gradients import Gradients
from core.coresets.inputs import present
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import Ratio, plugin
from core.pruning.schedule import cubic

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class TED(Selector):
    """Keep the largest abs(<g_i, G_left - G_kept>), on last-layer gradients g_i = (p - y) x [h, 1].

    G_kept and G_left are the sums of the gradients in and out of the coreset so far. Internal generalisation is what a
    step on the kept samples takes off the loss of those left out, <G_kept, G_left> to first order; the score is its
    derivative by the sample's mask. The share kept falls by a cubic from 1 at the start to alpha at ``until``, a
    fraction of the epochs, so a coreset is larger than alpha before it.
    Our readings: the formula, of which we know the idea alone (the distance is the change of internal generalisation
    by a mask); gradients of the last layer; the cubic; ``balanced`` takes every class's quota.
    """

    name: Literal["ted"] = "ted"
    until: Ratio = 0.5
    """Of the epochs, when the share that is kept has fallen to alpha."""
    balanced: Balanced = False

    summary: ClassVar[str] = "largest effect on what the kept samples teach about those left out; fewer and fewer"
    source: ClassVar[str] = "Xiao et al. 2024, arXiv 2405.03228"
    cost: ClassVar[str] = "a forward pass over the training set; trains on more than alpha of it at first"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features", "coreset"})

    @override
    def share(self, ratio: float, progress: float) -> float:
        return ratio + (1 - ratio) * (1 - cubic(progress, 0.0, self.until))

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        score_N = effect(Gradients.of(samples).double(), present(samples.kept_N, "coreset")).abs()
        return Coreset(best(samples, score_N, size, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 6.0 * sizes.samples * sizes.classes * (sizes.features + 1)


def effect(gradients: Gradients, kept_N: Tensor) -> Tensor:
    """The derivative of <sum of m_i g_i, sum of (1 - m_i) g_i> by every m_i, at m = ``kept_N``."""
    kept_CD = gradients[kept_N].total()
    return gradients.onto(gradients.total() - 2 * kept_CD)
