"""Moderate coreset: samples at a middling distance from the centre of their class."""

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
class Moderate(Selector):
    """Rank samples by the distance to their class's median feature and keep the band around the median distance.

    ``balanced`` takes one band per class, each the class's quota wide; else one band of all distances, as the published
    code does. Our reading: where the band cannot be centred, it lies one rank nearer to the class centre.
    """

    name: Literal["moderate"] = "moderate"
    balanced: Balanced = False

    summary: ClassVar[str] = "middling distance to the class's median feature"
    source: ClassVar[str] = "Xia et al. 2023, ICLR (openreview 7D5EECbOaf9)"
    cost: ClassVar[str] = "a forward pass over the training set"
    needs: ClassVar[frozenset[Need]] = frozenset({"features"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        features_ND = present(samples.features_ND, "features")
        distance_N = distance_to_centre(features_ND, samples.labels_N, samples.num_classes)

        def choose(index: Tensor, quota: int) -> Tensor:
            return middle(distance_N[index], quota)

        return Coreset(picked(samples, size, choose, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 3.0 * sizes.samples * sizes.features


def distance_to_centre(features_ND: Tensor, labels_N: Tensor, num_classes: int) -> Tensor:
    """Euclidean distance of every sample to the coordinate-wise median of its class."""
    distance_N = features_ND.new_zeros(len(features_ND))
    for label in range(num_classes):
        inside = labels_N == label
        if inside.any():
            own = features_ND[inside]
            distance_N[inside] = (own - median(own)).norm(dim=1)
    return distance_N


def median(features_ND: Tensor) -> Tensor:
    """The coordinate-wise median (D); the mean of the two middle values for an even number."""
    n, columns_DN = len(features_ND), features_ND.T.contiguous()
    low, high = (columns_DN.kthvalue(place + 1).values for place in ((n - 1) // 2, n // 2))
    return (low + high) / 2


def middle(distance_N: Tensor, size: int) -> Tensor:
    """The indices of the ``size`` middle ranks, by rank; ties by index. Raises ``ValueError`` when there are fewer."""
    spare = len(distance_N) - size
    if spare < 0:
        raise ValueError(f"cannot choose {size} of {len(distance_N)} samples")
    return distance_N.sort(stable=True).indices[spare // 2 : spare // 2 + size]
