"""Random selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Samples, Selector
from core.plugin import plugin

if TYPE_CHECKING:
    import torch


@plugin
class Random(Selector):
    """A uniform draw without replacement; ``balanced`` draws every class's quota from that class."""

    name: Literal["random"] = "random"
    balanced: Balanced = False

    summary: ClassVar[str] = "a uniform draw"

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        labels_N = samples.labels_N
        score_N = torch.rand(len(labels_N), generator=rng, dtype=torch.float64).to(labels_N.device)
        return Coreset(best(samples, score_N, size, balanced=self.balanced))
