"""Cutting a network smaller, with its gradients and the optimizer's momentum: what a ``Surgery`` says is done here.

A channel leaves by slices: of its weights, its bias, its normalisation, and of whatever reads it; what stays keeps its
values, gradient and momentum. A layer of rank r becomes two. With W ~ U D (U: outputs x r, D: r x inputs, singular
values shared between them in equal parts), their gradients are G D' and U' G, by the chain rule; our reading: momentum,
a sum of gradients of W, is carried over alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from core.network import Network
from core.projection import truncated
from core.pruning.cuts import Place, Surgery


def operate(network: Network, optimizer: torch.optim.Optimizer, surgery: Surgery) -> None:
    """Do the surgery on the network as it stands: slices first, then factors."""
    indices: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for (name, dim), index in surgery.kept.items():
        indices[name][dim] = index
    for name, stays in indices.items():
        _slice(network.module, name, stays, optimizer)
    for name, rank in surgery.ranks.items():
        _factor(network.module, name, rank, optimizer)
    optimizer.param_groups[0]["params"] = list(network.module.parameters())
    network.reshaped(after(network.surgery, surgery))


def after(first: Surgery, second: Surgery) -> Surgery:
    """Both, one after the other, as one surgery on what ``first`` was done to. Factors are never sliced later."""
    kept = {place: first.kept[place][i] if place in first.kept else i for place, i in second.kept.items()}
    return Surgery({**first.kept, **kept}, {**first.ranks, **second.ranks})


def recorded(surgery: Surgery) -> dict[str, Tensor]:
    """The surgery as named tensors, for a checkpoint."""
    ranks = {f"rank/{name}": torch.tensor(rank) for name, rank in surgery.ranks.items()}
    return {f"kept/{dim}/{name}": index for (name, dim), index in surgery.kept.items()} | ranks


def read(tensors: Mapping[str, Tensor]) -> Surgery:
    """The inverse of ``recorded``."""
    kept: dict[Place, Tensor] = {}
    ranks: dict[str, int] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "rank":
            ranks[name] = int(tensor)
        else:
            dim, _, name = name.partition("/")
            kept[name, int(dim)] = tensor
    return Surgery(kept, ranks)


def part(values: Tensor, indices: Mapping[int, Tensor]) -> Tensor:
    """What is left of a tensor of which, by dimension, only these indices stay; laid out like a new network's."""
    for dim, index in indices.items():
        values = values.index_select(dim, index.to(values.device))
    # Sums in another order would have other last bits, so the layout must not depend on how many cuts led here.
    layout = torch.channels_last if values.ndim == 4 else torch.contiguous_format
    return torch.empty(values.shape, dtype=values.dtype, device=values.device, memory_format=layout).copy_(values)


def placed(values: Tensor, inner: Tensor, indices: Mapping[int, Tensor]) -> Tensor:
    """``values`` with ``inner`` where, by dimension, these indices meet: the inverse of ``part``."""
    if not indices:
        return inner
    (dim, index), *others = indices.items()
    index = index.to(values.device)
    return values.index_copy(dim, index, placed(values.index_select(dim, index), inner, dict(others)))


def momentum(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> Tensor | None:
    """The optimizer's running sum of a parameter's gradients; ``None`` before its first step."""
    buffer: Tensor | None = optimizer.state[weight].get("momentum_buffer")
    return buffer


def _slice(module: nn.Module, name: str, indices: Mapping[int, Tensor], optimizer: torch.optim.Optimizer) -> None:
    owner, _, attribute = name.rpartition(".")
    layer = module.get_submodule(owner)
    old: Tensor = getattr(layer, attribute)
    new = part(old.detach(), indices)
    if isinstance(old, nn.Parameter):
        new = _successor(new, old, lambda g: part(g, indices), optimizer)
        optimizer.state.pop(old)
    setattr(layer, attribute, new)
    _resize(layer)


def _successor(
    values: Tensor, old: nn.Parameter, carry: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer
) -> nn.Parameter:
    """A parameter in place of ``old``; ``carry``: what becomes of a gradient, and of a sum of gradients."""
    new = nn.Parameter(values)
    if old.grad is not None:
        new.grad = carry(old.grad)
    buffer = momentum(optimizer, old)
    if buffer is not None:
        optimizer.state[new] = {"momentum_buffer": carry(buffer)}
    return new


def _resize(layer: nn.Module) -> None:
    """Let the layer's attributes say what its tensors are."""
    if isinstance(layer, nn.Conv2d):
        layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(layer.weight)


def _factor(module: nn.Module, name: str, rank: int, optimizer: torch.optim.Optimizer) -> None:
    path = name.removesuffix(".weight")
    layer = module.get_submodule(path)
    weight, bias = layer.get_parameter("weight"), dict(layer.named_parameters()).get("bias")
    up_OR, down_RI = truncated(weight, rank)
    # Built without initial values: drawing them would move the global generator.
    first = nn.Linear(down_RI.shape[1], rank, bias=False, device="meta")
    second = nn.Linear(rank, len(up_OR), bias=False, device="meta")
    first.weight = _successor(down_RI, weight, lambda g: up_OR.T @ g, optimizer)
    second.weight = _successor(up_OR, weight, lambda g: g @ down_RI.T, optimizer)
    second.register_parameter("bias", bias)
    optimizer.state.pop(weight)
    module.set_submodule(path, nn.Sequential(first, second))
