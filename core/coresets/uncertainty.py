"""Uncertainty: the predictions that could most easily be others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from typing_extensions import override

from core.coresets.inputs import present
from core.coresets.ranking import best
from core.coresets.samples import Balanced, Coreset, Need, Samples, Selector, Sizes
from core.plugin import plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind: TypeAlias = Literal["least_confidence", "entropy", "margin"]


@plugin
class Uncertainty(Selector):
    """The most uncertain, by ``kind``: least p of the predicted class, largest entropy, least gap to the next p.

    Labels are not read, but for the quotas of ``balanced``.
    """

    name: Literal["uncertainty"] = "uncertainty"
    kind: Kind = "least_confidence"
    """Least p of the predicted class, largest entropy, or least gap to the next p."""
    balanced: Balanced = False

    summary: ClassVar[str] = "most uncertain predictions, whatever the label"
    source: ClassVar[str] = "Coleman et al. 2020, arXiv 1906.11829"
    cost: ClassVar[str] = "a forward pass over the training set"
    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    @override
    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        score_N = uncertainty(present(samples.logits_NC, "logits"), self.kind)
        return Coreset(best(samples, score_N, size, balanced=self.balanced))

    @override
    def arithmetic(self, sizes: Sizes) -> float:
        return 1.0 * sizes.samples * sizes.classes


def uncertainty(logits_NC: Tensor, kind: Kind) -> Tensor:
    """1 - p_1, the entropy, or 1 - (p_1 - p_2), where p_1 >= p_2 are the two largest probabilities.

    All are sums of small numbers, which tell confident predictions apart where p_1 rounds to 1.
    """
    import torch

    p_NC = logits_NC.softmax(1)
    other_NC = p_NC.scatter(1, p_NC.argmax(1, keepdim=True), 0)
    rest_N = other_NC.sum(1)
    if kind == "least_confidence":
        return rest_N
    if kind == "margin":
        return rest_N + other_NC.amax(1)
    entropy_N: Tensor = torch.special.entr(other_NC).sum(1) - (1 - rest_N) * torch.log1p(-rest_N)
    return entropy_N
