"""Herding: samples whose running mean stays at the mean of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import picked
from core.coresets.samples import Coreset, Need, Samples, Selector, Sizes
from core.plugin import plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class Herding(Selector):
    """Class by class, the sample x that brings the sum of the chosen features nearest to (k + 1) times the class mean.

    A sample is chosen once.
    """

    name: Literal["herding"] = "herding"

    summary: ClassVar[str] = "samples whose mean feature stays at that of their class"
    source: ClassVar[str] = "Welling 2009, ICML (doi 10.1145/1553374.1553517)"
    cost: ClassVar[str] = "a forward pass over the training set; a product with the features of the class per pick"
    needs: ClassVar[frozenset[Need]] = frozenset({"features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        features_ND = present(samples.features_ND, "features")

        def choose(index: Tensor, quota: int) -> Tensor:
            return herd(features_ND[index], quota)

        return Coreset(picked(samples, size, choose, balanced=True))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 2.0 * sizes.samples * sizes.chosen * sizes.features / sizes.classes


def herd(features_ND: Tensor, picks: int) -> Tensor:
    """Positions of the picks, in order; ties by index.

    With z = x - mean, the distance of (k + 1) mean to the sum is the length of the sum of all z: each round picks the
    least |z|^2 / 2 + <z, sum so far>, to which a pick adds one product.
    """
    import torch

    z_ND = features_ND - features_ND.mean(0)
    length_N = z_ND.norm(dim=1).square() / 2
    taken_N = torch.zeros_like(length_N, dtype=torch.bool)
    chosen = []
    for _ in range(picks):
        pick = length_N.masked_fill(taken_N, torch.inf).argmin()
        taken_N[pick] = True
        length_N += z_ND @ z_ND[pick]
        chosen.append(pick)
    return torch.stack(chosen)
