"""EL2N: the norm of the prediction error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import error_of, present
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import Fraction, plugin

if TYPE_CHECKING:
    import torch


@plugin
class EL2N(Selector):
    """The hardest samples by the norm of p - y while progress <= ``hard_until``, the easiest after (SWaST's form).

    The original keeps the hardest throughout: ``hard_until: 1.0``.
    Our readings: the norm is that of the one current model, where the original averages over several early ones; one
    ranking of all samples, as the paper does not tell, or of each class (``balanced``).
    """

    name: Literal["el2n"] = "el2n"
    hard_until: Fraction = 0.5
    """Of the epochs: the hardest samples are kept until then, the easiest after."""
    balanced: Balanced = False

    summary: ClassVar[str] = "norm of the error p - y: hardest in the first half, easiest after"
    source: ClassVar[str] = "Paul et al. 2021, arXiv 2107.07075; switched as in arXiv 2511.09901"
    cost: ClassVar[str] = "a forward pass over the training set"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        norm_N = error_of(present(samples.logits_NC, "logits"), samples.labels_N).norm(dim=1)
        score_N = norm_N if progress <= self.hard_until else -norm_N
        return Coreset(best(samples, score_N, size, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 2.0 * sizes.samples * sizes.classes
