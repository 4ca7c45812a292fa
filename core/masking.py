"""What a pruner's decisions do to stored weights, gradients and momentum, the same for every pruner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from core.config import CellConfig, prunes
from core.events import LayerChange
from core.network import Network
from core.pruning.cuts import Surgery
from core.pruning.mask import kept, weigh
from core.pruning.pruner import Moment, View
from core.pruning.scope import groups
from core.surgery import momentum, operate, part


class Masking:
    """Weights outside the mask are zero, receive no gradient and have no momentum.

    So they stay zero through any number of optimizer steps and any weight decay. A pruner that learns through the
    forward pass keeps its stored weights dense; there the mask acts in evaluation. After a surgery the mask is that
    of what is left; densities that are told stay shares of the whole network, as it was built.
    """

    def __init__(self, cell: CellConfig, network: Network, optimizer: torch.optim.Optimizer) -> None:
        self.pruner = cell.pruner
        self.network = network
        self.optimizer = optimizer
        self.active = prunes(cell)
        weights, rates = network.weights, (cell.scope, cell.prune_rate, cell.fc_prune_rate)
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        self.groups = groups(shapes, network.classifier_weight, *rates) if self.active else ()
        self.weights = {name: weights[name] for group in self.groups for name in group.layers}
        self.sizes = {name: weight.numel() for name, weight in weights.items()}
        self.mask: dict[str, Tensor] = {
            name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()
        }
        self.state: Mapping[str, Tensor] = {}
        self._measure()

    def init(self, view: View) -> dict[str, LayerChange] | None:
        """Let the pruner choose its first mask. Returns as ``step``."""
        self.state, change = self.pruner.init(view)
        return self._change(change)

    def step(self, view: View) -> dict[str, LayerChange] | None:
        """Let the pruner act after a backward pass, then mask the gradients of what is pruned.

        ``None`` when it had nothing to decide; what it changes per layer, if anything, when it had.
        """
        self.state, change = self.pruner.step(self.state, view)
        changes = self._change(change)
        self.hold()
        return changes

    def hold(self) -> None:
        """Keep the mask in force after a backward pass: what is pruned has no gradient. The pruner is not asked."""
        if not self.pruner.learns_forward and self._sparse:
            gradients = [weight.grad for weight, _ in self._sparse if weight.grad is not None]
            torch._foreach_mul_(gradients, [keep for weight, keep in self._sparse if weight.grad is not None])

    def clear(self) -> None:
        """Set to zero what the mask says is, after somebody else wrote the stored weights."""
        if not self.pruner.learns_forward:
            with torch.no_grad():
                for weight, keep in self._sparse:
                    weight.mul_(keep)

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

    def reshape(self, surgery: Surgery) -> None:
        """Do a surgery: on the network, the momentum, the mask, and the groups, which name what is there now."""
        operate(self.network, self.optimizer, surgery)
        weights = self.network.weights
        self.groups = tuple(
            replace(group, layers=tuple(now for layer in group.layers for now in parts_of(layer, weights)))
            for group in self.groups
        )
        self.weights = {name: weights[name] for group in self.groups for name in group.layers}
        self.mask = {name: self._left_of_mask(name, surgery) for name in self.weights}

    def _left_of_mask(self, name: str, surgery: Surgery) -> Tensor:
        if name not in self.mask:
            return torch.ones_like(self.weights[name], dtype=torch.bool)
        return part(self.mask[name], {dim: index for (layer, dim), index in surgery.kept.items() if layer == name})

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

    def _change(self, change: Mapping[str, Tensor] | Surgery | None) -> dict[str, LayerChange] | None:
        if change is None:
            return None
        changes = self._cut(change) if isinstance(change, Surgery) else self._renew(change)
        self._measure()
        return changes

    def _cut(self, surgery: Surgery) -> dict[str, LayerChange]:
        before = self._left()
        self.reshape(surgery)
        return {
            name: LayerChange(before[name] - left, 0, left / self.sizes[name])
            for name, left in self._left().items()
            if left != before[name]
        }

    def _left(self) -> dict[str, int]:
        """How many weights are left of every layer that the network was built with."""
        weights = self.network.weights
        return {name: sum(weights[now].numel() for now in parts_of(name, weights)) for name in self.sizes}

    def _renew(self, mask: Mapping[str, Tensor]) -> dict[str, LayerChange]:
        changes: dict[str, LayerChange] = {}
        for name, new in mask.items():
            both = self.mask[name] & new
            counts = kept({"old": self.mask[name], "both": both, "new": new})
            removed, grown = counts["old"] - counts["both"], counts["new"] - counts["both"]
            if removed or grown:
                changes[name] = LayerChange(removed, grown, counts["new"] / new.numel())
                self._clear(self.weights[name], weigh(both))
                self.mask[name] = new
        return changes

    def _clear(self, weight: nn.Parameter, stays: Tensor) -> None:
        """Removed and grown weights start from zero, with no momentum."""
        if self.pruner.learns_forward:
            return
        with torch.no_grad():
            weight.mul_(stays)
        buffer = momentum(self.optimizer, weight)
        if buffer is not None:
            buffer.mul_(stays)

    def _measure(self) -> None:
        live = kept(self.mask)
        self.density_by_layer = {name: live[name] / mask.numel() for name, mask in self.mask.items()}
        masked = sum(mask.numel() for mask in self.mask.values()) - sum(live.values())
        total = sum(self.sizes.values())
        self.density = 1.0 - (total - sum(self._left().values()) + masked) / total
        self.dead_layers = sum(count == 0 for count in live.values())
        self._sparse = [
            (weight, torch.empty_like(weight).copy_(weigh(self.mask[name])))
            for name, weight in self.weights.items()
            if live[name] < weight.numel()
        ]


def parts_of(layer: str, weights: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the weights that a layer's became: its own, or those of its factors, which extend the layer's."""
    path = layer.removesuffix("weight")
    return (layer,) if layer in weights else tuple(name for name in weights if name.startswith(path))
