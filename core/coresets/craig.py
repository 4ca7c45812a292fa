"""CRAIG: every gradient near that of a chosen sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.coresets.facility import chunks, facility_location
from core.coresets.gradients import Gradients
from core.coresets.ranking import classes
from core.coresets.samples import Coreset, Need, Samples, Selector, Sizes
from core.plugin import plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HELD = 2**27
"""Most distances of one class that are held; those of a larger class are computed again whenever they are read."""


@plugin
class Craig(Selector):
    """Facility location on the last layer's gradients (p - y) x [h, 1], class by class.

    A class's quota of samples is picked greedily, each so that the distances of all gradients of the class to the
    nearest chosen one shrink most. A sample weighs as many as it is nearest to, scaled to mean 1.
    Our reading: Euclidean distances of the gradients, not of their normalised directions; a chosen sample stands at
    least for itself.
    """

    name: Literal["craig"] = "craig"
    semantics_version: ClassVar[int] = 2

    summary: ClassVar[str] = "weighted samples whose gradients are nearest to all others of their class"
    source: ClassVar[str] = "Mirzasoleiman et al. 2020, arXiv 1906.01827"
    cost: ClassVar[str] = "a forward pass over the training set; all distances within each class, a class at a time"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits", "features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        import torch

        gradients = Gradients.of(samples)
        weight_N = torch.zeros(len(gradients), dtype=torch.float64, device=samples.labels_N.device)
        for index, quota in classes(samples.labels_N, samples.num_classes, size):
            own = gradients[index]
            # Two gradients are never further apart than twice the longest one.
            reach_N = (2 * own.norms().max()).expand(len(own))
            picks, counts = facility_location(_rows(own), reach_N, quota)
            weight_N[index[picks]] = counts.double()
        index_M = weight_N.nonzero().flatten()
        weight_M = weight_N[index_M]
        return Coreset(index_M, (weight_M / weight_M.mean()).float())

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        distances = 2.0 * sizes.samples**2 * (sizes.classes + sizes.features) / sizes.classes
        in_class = sizes.samples / sizes.classes
        # A row that is computed again whenever it is read is read some ln(picks) times more.
        again = 1 + math.log(max(1.0, sizes.chosen / sizes.classes)) if in_class**2 > HELD else 0.0
        return distances * (1 + again)


def _rows(gradients: Gradients) -> Callable[[Tensor], Tensor]:
    """The distances of some to all: read from a matrix, or computed where that would be too large."""
    import torch

    n = len(gradients)
    if n * n > HELD:
        return gradients.distances
    like = gradients.features_ND
    held_NN = like.new_empty(n, n)
    for part in chunks(torch.arange(n, device=like.device), n):
        held_NN[part] = gradients.distances(part)
    return held_NN.__getitem__
