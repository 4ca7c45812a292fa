"""k-center: no sample far from a chosen one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import picked
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@plugin
class KCenter(Selector):
    """Farthest first: always the sample whose feature is farthest from all chosen ones.

    ``balanced`` takes every class's quota within that class, which is also as many times quicker as there are classes.
    Our reading: the first centre is the sample nearest to the mean, where the original has labelled samples already.
    """

    name: Literal["kcenter"] = "kcenter"
    balanced: Balanced = False

    summary: ClassVar[str] = "farthest first: covers the features with least radius"
    source: ClassVar[str] = "Sener & Savarese 2018, arXiv 1708.00489"
    cost: ClassVar[str] = "a forward pass over the training set; the distances of all to each pick"
    needs: ClassVar[frozenset[Need]] = frozenset({"features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        features_ND = present(samples.features_ND, "features")

        def choose(index: Tensor, quota: int) -> Tensor:
            return farthest_first(features_ND[index], quota)

        return Coreset(picked(samples, size, choose, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        distances = 3.0 * sizes.samples * sizes.chosen * sizes.features
        return distances / sizes.classes if self.balanced else distances


def farthest_first(features_ND: Tensor, picks: int) -> Tensor:
    """Positions of the picks, in order; ties by index."""
    import torch

    near_N = torch.full_like(features_ND[:, 0], torch.inf)
    pick = _distances(features_ND.mean(0), features_ND).argmin()
    chosen = []
    for _ in range(picks):
        # A minimum that passes over NaN, so that what was taken stays taken.
        near_N = near_N.fmin(_distances(features_ND[pick], features_ND))
        near_N[pick] = -torch.inf
        chosen.append(pick)
        pick = near_N.argmax()
    return torch.stack(chosen)


def _distances(point_D: Tensor, features_ND: Tensor) -> Tensor:
    """Of a point to all, from differences: products would cancel where samples lie close together."""
    import torch

    return torch.cdist(point_D[None], features_ND, compute_mode="donot_use_mm_for_euclid_dist")[0]
