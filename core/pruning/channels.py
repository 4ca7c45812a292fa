"""Structured pruning of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning.structured import Structured

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.couplings import Coupling
    from core.pruning.pruner import Removal


@plugin
class Channels(Structured):
    """Remove channels with everything that makes and reads them: rows, columns, normalisation. FLOPs fall for real.

    Channels that residual connections tie together leave together; so do hidden units of linear layers. A channel's
    ``importance``: l1, the sum of its filters' absolute weights; group_norm, the Euclidean norm of all weights that
    make or read it; fpgm, the sum of its filters' distances to those of the other channels: the most replaceable goes.
    Our readings: filters of tied layers count together; biases and normalisation do not count; attention stays whole,
    and so do channels that are padded or concatenated.
    """

    name: Literal["channels"] = "channels"
    importance: Literal["l1", "group_norm", "fpgm"] = "group_norm"
    """Of a channel: what it ranks by."""

    summary: ClassVar[str] = "least important channels, cut out of the network along a cubic schedule"
    source: ClassVar[str] = (
        "Fang et al. 2023, arXiv 2301.12900; Li et al. 2017, arXiv 1608.08710; He et al. 2019, arXiv 1811.00250"
    )
    removes: ClassVar[Removal] = "channels"

    @override
    def worth(self, coupling: Coupling, weights: Mapping[str, Tensor]) -> Tensor:
        import torch

        worth_C = torch.zeros(coupling.channels, dtype=torch.float64)
        for (name, dim), owner in coupling.owner.items():
            weight = weights.get(name)
            if weight is None or weight.ndim == 1 or (dim == 1 and self.importance != "group_norm"):
                continue
            of_index = _of_rows(weight.double().transpose(0, dim).flatten(1), self.importance)
            worth_C.index_add_(0, owner, of_index.cpu())
        return worth_C.sqrt() if self.importance == "group_norm" else worth_C


def _of_rows(rows: Tensor, by: Literal["l1", "group_norm", "fpgm"]) -> Tensor:
    """Each row's part of its channel's importance; squared for the group norm."""
    import torch

    if by == "fpgm":
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)
    return rows.square().sum(1) if by == "group_norm" else rows.abs().sum(1)
