"""CCS: coverage of all difficulties but the hardest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.difficulty import Difficulty, difficulty, without_hardest
from core.coresets.ranking import highest, per_group
from core.coresets.samples import Coreset, Need, Samples, Selector
from core.plugin import Count, Fraction, plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class CCS(Selector):
    """Leave out the hardest ``cutoff`` of the samples, and draw alike from ``strata`` of equal width of the others.

    Fewer are left out where more are wanted. The smallest stratum gives first, at most an equal share of what is still
    wanted; the last one gives the rest.
    """

    name: Literal["ccs"] = "ccs"
    score: Difficulty = "aum"
    """How hard a sample is: the area under its margin, or how often it was forgotten."""
    cutoff: Fraction = 0.3
    """Share of the samples, the hardest, that is left out."""
    strata: Count = 50
    """Intervals of equal width of the score that are drawn from alike."""

    summary: ClassVar[str] = "alike from all strata of difficulty, the hardest samples left out"
    source: ClassVar[str] = "Zheng et al. 2023, arXiv 2210.15809"
    cost: ClassVar[str] = "no pass: reads what training has noted"
    needs: ClassVar[frozenset[Need]] = frozenset({"history"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        score_N = difficulty(samples, self.score)
        kept = without_hardest(score_N, self.cutoff, size, rng)
        stratum = strata(score_N[kept], self.strata)
        draw = torch.rand(len(kept), generator=rng, dtype=torch.float64).to(score_N.device)

        def choose(index: Tensor, budget: int) -> Tensor:
            return highest(draw[index], budget)

        shares = budgets(stratum.bincount(minlength=self.strata).tolist(), size)
        return Coreset(kept[per_group(stratum, shares, choose)].sort().values)


def strata(score_N: Tensor, number: int) -> Tensor:
    """Which of so many intervals of equal width between the least and the largest score each lies in."""
    low, high = score_N.aminmax()
    share_N = (score_N - low) / (high - low)
    return (share_N.nan_to_num(0) * number).long().clamp_max(number - 1)


def budgets(counts: Sequence[int], size: int) -> list[int]:
    """How many of each stratum make up ``size``. Raises ``ValueError`` when there are fewer in all."""
    if size > sum(counts):
        raise ValueError(f"cannot choose {size} of {sum(counts)} samples")
    found = [0] * len(counts)
    for done, stratum in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        found[stratum] = min(counts[stratum], (size - sum(found)) // (len(counts) - done))
    return found
