"""Forgetting: samples that were learnt and lost again most often."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.difficulty import difficulty
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector
from core.plugin import plugin

if TYPE_CHECKING:
    import torch


@plugin
class Forgetting(Selector):
    """The samples with the most changes from correct to wrong so far. Never learnt counts as forgotten without end.

    Our readings: a sample is never learnt when it is wrong now and was never forgotten, so one that was never trained
    on is among them. Counts are small integers: ties are broken at random, not by index, because the order of a data
    set may be that of its classes.
    """

    name: Literal["forgetting"] = "forgetting"
    balanced: Balanced = False

    summary: ClassVar[str] = "most often forgotten, never learnt first"
    source: ClassVar[str] = "Toneva et al. 2019, arXiv 1812.05159"
    cost: ClassVar[str] = "no pass: reads what training has noted"
    needs: ClassVar[frozenset[Need]] = frozenset({"history"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        score_N = difficulty(samples, "forgetting")
        return Coreset(best(samples, score_N, size, balanced=self.balanced, ties=rng))
