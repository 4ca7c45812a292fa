"""EMP: hard samples, and those that the model has not made up its mind on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import NonNegative, plugin

if TYPE_CHECKING:
    import torch


@plugin
class EMP(Selector):
    """The highest loss + ``memory`` * entropy of the prediction, in nats; the entropy stands for what is not memorised.

    Our readings: both are those of the sample's last training pass, which cost nothing, where a sample that is left out
    keeps its score until it is the highest; what was never trained on comes first; the default of ``memory``, beta in
    the paper; ties are broken at random, as before the first pass all are tied; ``balanced`` takes every class's quota.
    """

    name: Literal["emp"] = "emp"
    memory: NonNegative = 1.0
    """Weight of the entropy."""
    balanced: Balanced = False

    summary: ClassVar[str] = "every epoch: highest loss plus entropy of the prediction, when last trained on"
    source: ClassVar[str] = "Xiao et al. 2024, arXiv 2408.16031"
    cost: ClassVar[str] = "no pass: reads what training has noted"
    when: ClassVar[str] = "in every epoch after the warm-up, by default none"
    needs: ClassVar[frozenset[Need]] = frozenset({"history"})
    online: ClassVar[bool] = True

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        loss_N, entropy_N = present(samples.loss_N, "history"), present(samples.entropy_N, "history")
        score_N = (loss_N.double() + self.memory * entropy_N.double()).nan_to_num(torch.inf)
        return Coreset(best(samples, score_N, size, balanced=self.balanced, ties=rng))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 1.0 * sizes.samples
