"""Structured pruning of hidden units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning.structured import Structured

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.couplings import Coupling, Structure
    from core.pruning.pruner import Removal


@plugin
class Rows(Structured):
    """Remove the hidden units of least row norm, between linear layers: of an MLP, of a transformer.

    A unit's norm is the Euclidean one of the weights that make it, its bias apart; it leaves with the column that
    reads it.
    Our readings: the schedule, and that the rate is of all weights in scope; the source prunes once, after training.
    """

    name: Literal["rows"] = "rows"

    summary: ClassVar[str] = "hidden units of least row norm, cut out of the network along a cubic schedule"
    source: ClassVar[str] = "arXiv 2406.04997"
    removes: ClassVar[Removal] = "hidden units"

    @override
    def choose(self, structure: Structure) -> tuple[Coupling, ...]:
        linear = structure.linear
        return tuple(
            one for one in structure.couplings if all(name.rpartition(".")[0] in linear for name, _ in one.owner)
        )

    @override
    def worth(self, coupling: Coupling, weights: Mapping[str, Tensor]) -> Tensor:
        import torch

        worth_C = torch.zeros(coupling.channels, dtype=torch.float64)
        for (name, dim), owner in coupling.owner.items():
            if dim == 0 and weights[name].ndim == 2:
                worth_C.index_add_(0, owner, weights[name].double().square().sum(1).cpu())
        return worth_C.sqrt()
