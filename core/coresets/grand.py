"""GraNd: the norm of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.gradients import Gradients
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import plugin

if TYPE_CHECKING:
    import torch


@plugin
class GraNd(Selector):
    """The samples with the longest last-layer gradient (p - y) x [h, 1].

    Our reading: of the one current model, where the original averages over several early ones.
    """

    name: Literal["grand"] = "grand"
    balanced: Balanced = False

    summary: ClassVar[str] = "longest gradient of the last layer"
    source: ClassVar[str] = "Paul et al. 2021, arXiv 2107.07075"
    cost: ClassVar[str] = "a forward pass over the training set"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        norm_N = Gradients.of(samples).norms()
        return Coreset(best(samples, norm_N, size, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 2.0 * sizes.samples * (sizes.classes + sizes.features)
