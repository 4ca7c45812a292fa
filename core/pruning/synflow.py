"""SynFlow: iterative synaptic flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Count, plugin
from core.pruning import scores
from core.pruning.allocation import keep_top
from core.pruning.fixed_at_init import FixedAtInit
from core.pruning.pruner import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask, View
    from core.pruning.scope import Group


@plugin
class SynFlow(FixedAtInit):
    """Before training, in ``rounds`` at densities rho^(k / rounds), keep the weights of most synaptic flow.

    The flow R is the sum of the logits of an input of ones through the absolute values of all parameters, in
    evaluation mode and double precision; a weight's share is abs(w * dR/dw). It needs no data. Every round scores the
    masked network, and nothing grows again.
    """

    name: Literal["synflow"] = "synflow"
    rounds: Count = 100
    """Of scoring the masked network and removing, until the density is reached."""

    summary: ClassVar[str] = "most synaptic flow, in 100 rounds without data, fixed before training"
    source: ClassVar[str] = "Tanaka et al. 2020, arXiv 2006.05467"
    cost: ClassVar[str] = "a training pass of one input per round, in double precision"

    @override
    def init(self, view: View) -> tuple[Mapping[str, Tensor], Mask | None]:
        import torch

        mask: Mask = {layer: torch.ones_like(weight, dtype=torch.bool) for layer, weight in view.weights.items()}
        for done in range(1, self.rounds + 1):
            effective = {layer: weight.double() * mask[layer] for layer, weight in view.weights.items()}
            flow = scores.saliency(effective, view.probe.flow)
            groups = [_at(group, done / self.rounds) for group in view.groups]
            mask = keep_top(groups, flow, self.allocation, within=mask)
        return {}, mask

    @override
    def passes_at_init(self) -> Passes:
        return Passes(forward=self.rounds, backward=self.rounds, samples="one")


def _at(group: Group, share: float) -> Group:
    """The group at density rho^share; at 1 its own, to the digit."""
    return group if share == 1 else replace(group, prune_rate=1 - group.density**share)
