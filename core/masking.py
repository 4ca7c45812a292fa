"""The mask in force: what it does to stored weights, gradients and momentum, the same for every pruner."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from core.config import CellConfig, prunes
from core.events import LayerChange
from core.pruning.pruner import Moment, View
from core.pruning.scope import groups

Momentum = Callable[[nn.Parameter], Tensor | None]


class Masking:
    """Weights outside the mask are zero, receive no gradient and have no momentum.

    So they stay zero through any number of optimizer steps and any weight decay. A pruner that learns through the
    forward pass keeps its stored weights dense; there the mask acts in evaluation.
    """

    def __init__(self, cell: CellConfig, weights: Mapping[str, nn.Parameter], classifier: str) -> None:
        self.pruner = cell.pruner
        self.active = prunes(cell)
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        self.groups = groups(shapes, classifier, cell.scope, cell.prune_rate, cell.fc_prune_rate) if self.active else ()
        self.weights = {name: weights[name] for group in self.groups for name in group.layers}
        self.total = sum(weight.numel() for weight in weights.values())
        self.mask: dict[str, Tensor] = {
            name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()
        }
        self.state: Mapping[str, Tensor] = {}
        self._measure()

    def init(self, view: View) -> dict[str, LayerChange] | None:
        """Let the pruner choose its first mask. Returns as ``step``."""
        self.state, mask = self.pruner.init(view)
        return None if mask is None else self._change(mask, lambda _: None)

    def step(self, view: View, momentum: Momentum) -> dict[str, LayerChange] | None:
        """Let the pruner act after a backward pass, then mask the gradients of what is pruned.

        ``None`` when it had nothing to decide; what its mask changes per layer, if anything, when it had.
        """
        self.state, mask = self.pruner.step(self.state, view)
        change = None if mask is None else self._change(mask, momentum)
        self.hold()
        return change

    def hold(self) -> None:
        """Keep the mask in force after a backward pass: what is pruned has no gradient. The pruner is not asked."""
        if not self.pruner.learns_forward and self._sparse:
            gradients = [weight.grad for weight, _ in self._sparse if weight.grad is not None]
            torch._foreach_mul_(gradients, [keep for weight, keep in self._sparse if weight.grad is not None])

    def gradients(self) -> dict[str, Tensor]:
        """Dense gradients of the stored weights, before masking."""
        return {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}

    def stored(self) -> dict[str, Tensor]:
        """The stored weights, detached."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    def trained(self, moment: Moment, generator: Callable[[], torch.Generator]) -> Mapping[str, Tensor] | None:
        """The weights of the training forward pass; ``None`` when they are the stored ones."""
        if not self.active or not self.pruner.learns_forward:
            return None
        return self.pruner.forward_weights(self.state, self.weights, moment, generator())

    def evaluated(self) -> Mapping[str, Tensor] | None:
        """The effective weights of evaluation and scoring; ``None`` when they are the stored ones."""
        if not self.active or not self.pruner.learns_forward:
            return None
        return {name: weight.detach() * self.mask[name] for name, weight in self.weights.items()}

    def restore(self, mask: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Take over the mask and method state of a checkpoint; the stored weights are already masked."""
        self.mask = {name: mask[name] for name in self.mask}
        self.state = {name: self._laid_out(name, values) for name, values in state.items()}
        self._measure()

    def _laid_out(self, name: str, values: Tensor) -> Tensor:
        """A method's tensor in the memory layout of its weight: sums in another order would have other last bits."""
        weight = self.weights.get(name.partition("/")[2])
        if weight is None or weight.shape != values.shape:
            return values
        return torch.empty_like(weight, dtype=values.dtype, requires_grad=False).copy_(values)

    def _change(self, mask: Mapping[str, Tensor], momentum: Momentum) -> dict[str, LayerChange]:
        changes: dict[str, LayerChange] = {}
        for name, new in mask.items():
            old = self.mask[name]
            removed, grown = int((old & ~new).sum()), int((new & ~old).sum())
            if removed or grown:
                changes[name] = LayerChange(removed, grown, int(new.sum()) / new.numel())
                self._clear(self.weights[name], old & new, momentum)
                self.mask[name] = new
        self._measure()
        return changes

    def _clear(self, weight: nn.Parameter, stays: Tensor, momentum: Momentum) -> None:
        """Removed and grown weights start from zero, with no momentum."""
        if self.pruner.learns_forward:
            return
        with torch.no_grad():
            weight.mul_(stays)
        buffer = momentum(weight)
        if buffer is not None:
            buffer.mul_(stays)

    def _measure(self) -> None:
        live = {name: int(mask.sum()) for name, mask in self.mask.items()}
        self.density_by_layer = {name: live[name] / mask.numel() for name, mask in self.mask.items()}
        pruned = sum(mask.numel() for mask in self.mask.values()) - sum(live.values())
        self.density = 1.0 - pruned / self.total
        self.dead_layers = sum(count == 0 for count in live.values())
        self._sparse = [
            (weight, torch.empty_like(weight).copy_(self.mask[name]))
            for name, weight in self.weights.items()
            if live[name] < weight.numel()
        ]
