"""D2: difficulty and diversity on a graph of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.difficulty import Difficulty, difficulty, without_hardest
from core.coresets.facility import chunks
from core.coresets.inputs import present
from core.coresets.ranking import picked
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import Count, Fraction, NonNegative, plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class D2(Selector):
    """Pick the highest score, again and again, and lower that of its neighbours each time.

    The hardest ``cutoff`` is set aside, less where more samples are wanted. On the graph of the ``neighbours`` nearest
    features a sample's score is its difficulty plus exp(-d) times that of each neighbour at distance d; a pick i takes
    exp(-``gamma`` d) score_i from the score of each of its own.
    ``balanced`` does all this within every class. Of equals the easier one is picked, then one at random.
    Our reading: what counts as a neighbour is directed, as in the published code for precomputed graphs.
    """

    name: Literal["d2"] = "d2"
    semantics_version: ClassVar[int] = 2
    score: Difficulty = "forgetting"
    """How hard a sample is: how often it was forgotten, or the area under its margin."""
    neighbours: Count = 5
    """Of a sample in the graph: the nearest features."""
    gamma: NonNegative = 0.1
    """How fast a pick's effect on its neighbours falls with their distance."""
    cutoff: Fraction = 0.4
    """Share of the samples, the hardest, that is set aside."""
    balanced: Balanced = False

    summary: ClassVar[str] = "difficulty spread over a graph of neighbours, each pick lowering those beside it"
    source: ClassVar[str] = "Maharana et al. 2024, arXiv 2310.07931"
    cost: ClassVar[str] = "a forward pass over the training set; all distances once, in chunks"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "history"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        features_ND, score_N = present(samples.features_ND, "features"), difficulty(samples, self.score)

        def choose(index: Tensor, quota: int) -> Tensor:
            kept = without_hardest(score_N[index], self.cutoff, quota, rng)
            return kept[self._spread_out(features_ND[index[kept]], score_N[index[kept]], quota)]

        return Coreset(picked(samples, size, choose, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        left = max((1 - self.cutoff) * sizes.samples, sizes.chosen)
        distances = 2.0 * left**2 * sizes.features
        return distances / sizes.classes if self.balanced else distances

    def _spread_out(self, features_ND: Tensor, difficulty_N: Tensor, picks: int) -> Tensor:
        """Positions of the picks, in order; ties by index."""
        import torch

        beside_NK, distance_NK = nearest(features_ND, self.neighbours)
        # A model that diverged has no distances: nobody is near then.
        spread_NK, taken_NK = ((-factor * distance_NK).exp().nan_to_num(0) for factor in (1, self.gamma))
        score_N = difficulty_N + (spread_NK * difficulty_N[beside_NK]).sum(1)
        chosen = []
        for _ in range(picks):
            pick = score_N.argmax()
            score_N[beside_NK[pick]] -= taken_NK[pick] * score_N[pick]
            score_N[pick] = -torch.inf
            chosen.append(pick)
        return torch.stack(chosen)


def nearest(features_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest others of every sample and the Euclidean distances to them, N x k each; all others where fewer.

    Which ones are near is decided on squared distances from products, how near from differences.
    """
    import torch

    n = len(features_ND)
    half_N = features_ND.square().sum(1) / 2
    beside, distance = [], []
    for part in chunks(torch.arange(n, device=features_ND.device), n):
        affinity_PN = (features_ND[part] @ features_ND.T).sub_(half_N)
        affinity_PN[torch.arange(len(part), device=part.device), part] = -torch.inf
        beside.append(affinity_PN.topk(min(k, n - 1)).indices)
        apart_PKD = features_ND[beside[-1]] - features_ND[part, None]
        distance.append(apart_PKD.norm(dim=2))
    return torch.cat(beside), torch.cat(distance).double()
