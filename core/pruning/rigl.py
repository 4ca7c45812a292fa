"""RigL: grow where the dense gradient is largest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning import scores
from core.pruning.drop_and_grow import DropAndGrow

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import View


@plugin
class RigL(DropAndGrow):
    """Drop the smallest weights, grow those with the largest gradient.

    Our reading: the end and the cosine count epochs, not optimizer steps, so that they do not depend on the coreset.
    """

    name: Literal["rigl"] = "rigl"

    summary: ClassVar[str] = "sparse from the start; drops small weights, grows by gradient"
    source: ClassVar[str] = "Evci et al. 2020, arXiv 1911.11134"
    cost: ClassVar[str] = "the gradient of removed weights at every update"
    dense_gradient: ClassVar[Literal["never", "updates", "always"]] = "updates"

    @override
    def growth(self, view: View) -> Mapping[str, Tensor]:
        return scores.magnitude(view.gradients)
