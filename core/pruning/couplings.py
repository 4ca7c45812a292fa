"""Which channels of a network can only be removed together. Torch-Pruning follows its graph, and does nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.pruning.cuts import Place, Surgery
from core.pruning.scope import classifier, prunable

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Coupling:
    """Channels, each of which leaves several tensors at once: those that make it and those that read it."""

    owner: Mapping[Place, Tensor]
    """By dimension, the channel that each index belongs to; channels count from 0. On the CPU."""

    @cached_property
    def channels(self) -> int:
        """How many there are."""
        return int(next(iter(self.owner.values())).max()) + 1

    def width(self, place: Place) -> int:
        """How many indices of the dimension a channel takes: one, or the pixels that a flattened map has."""
        return len(self.owner[place]) // self.channels

    def kept(self, stays_C: Tensor) -> dict[Place, Tensor]:
        """The indices that stay of every dimension when the channels ``stays_C`` (C, bool) stay."""
        return {place: stays_C[owner].nonzero().flatten() for place, owner in self.owner.items()}

    def after(self, stays_C: Tensor) -> Coupling:
        """What it is once only these channels are left, counted anew."""
        number_C = stays_C.cumsum(0) - 1
        return Coupling({place: number_C[owner[stays_C[owner]]] for place, owner in self.owner.items()})


@dataclass(frozen=True, eq=False)
class Structure:
    """A network that nobody trains, to be taken apart. ``image``: one that it takes (1 x C x H x W)."""

    module: nn.Module
    image: Tensor

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every prunable weight."""
        return {name: tuple(weight.shape) for name, weight in prunable(self.module).items()}

    @cached_property
    def classifier(self) -> str:
        """The name of the classifier's weight."""
        return classifier(self.module)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Every parameter, detached."""
        return {name: parameter.detach() for name, parameter in self.module.named_parameters()}

    @property
    def linear(self) -> dict[str, nn.Linear]:
        """The plain linear layers by name; attention's projections are none: their parent applies them."""
        from torch import nn

        return {name: layer for name, layer in self.module.named_modules() if type(layer) is nn.Linear}

    @cached_property
    def couplings(self) -> tuple[Coupling, ...]:
        """Every set of coupled channels of convolutions and linear layers, in the order of the graph.

        Left out: the classifier's outputs, channels that pass through anything but plain convolutions, linear layers
        and batch normalisation (attention, grouped convolutions, other normalisation), and those that are padded or
        concatenated on their way, which make up only a part of what a layer reads.
        """
        import torch_pruning

        last = self.module.get_submodule(self.classifier.removesuffix(".weight"))
        names = {id(layer): name for name, layer in self.module.named_modules()}
        with warnings.catch_warnings():
            # It tells of parameters outside layers (position embeddings); what they touch is left out.
            warnings.simplefilter("ignore")
            graph = torch_pruning.DependencyGraph().build_dependency(self.module, example_inputs=self.image)
            groups = list(graph.get_all_groups(ignored_layers=[last]))
        return tuple(found for group in groups if (found := _coupling(graph, group, names)) is not None)


def _coupling(graph: Any, group: Any, names: Mapping[int, str]) -> Coupling | None:
    import torch

    owner: dict[Place, Tensor] = {}
    for item in group:
        layer = item.dep.target.module
        if id(layer) not in names:
            if isinstance(layer, torch.nn.Parameter):
                return None
            continue
        places = tuple(_places(layer, made=graph.is_out_channel_pruning_fn(item.dep.handler)))
        if not places:
            return None
        for attribute, dim in places:
            place = (f"{names[id(layer)]}.{attribute}", dim)
            owned = owner.setdefault(place, torch.full((getattr(layer, attribute).shape[dim],), -1))
            owned[torch.tensor(item.idxs)] = torch.tensor(item.root_idxs)
    whole = all(bool((owned >= 0).all()) for owned in owner.values())
    return Coupling(owner) if whole else None


def _places(layer: nn.Module, *, made: bool) -> Iterator[Place]:
    """The tensors of a layer that hold a channel it makes, or reads; none for a layer that cannot be cut."""
    from torch import nn

    if type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1):
        yield "weight", 0 if made else 1
        if made and layer.bias is not None:
            yield "bias", 0
    elif type(layer) is nn.BatchNorm2d:
        held = ("weight", "bias", "running_mean", "running_var")
        yield from ((name, 0) for name in held if getattr(layer, name) is not None)


def surgery_of(found: Sequence[Coupling], stays: Sequence[Tensor]) -> Surgery:
    """The surgery that leaves of each coupling the channels ``stays`` (C, bool)."""
    kept: dict[Place, Tensor] = {}
    for coupling, stays_C in zip(found, stays, strict=True):
        if not bool(stays_C.all()):
            kept |= coupling.kept(stays_C)
    return Surgery(kept)


def recorded(found: tuple[Coupling, ...]) -> dict[str, Tensor]:
    """Couplings as named tensors, for a pruner's state."""
    return {
        f"owner/{place}/{dim}/{name}": owner
        for place, coupling in enumerate(found)
        for (name, dim), owner in coupling.owner.items()
    }


def read(state: Mapping[str, Tensor]) -> tuple[Coupling, ...]:
    """The inverse of ``recorded``, from a state that may hold more; in one order, however the state is ordered."""
    owners: dict[int, dict[Place, Tensor]] = {}
    for key in sorted(state):
        kind, _, rest = key.partition("/")
        if kind == "owner":
            place, dim, name = rest.split("/", 2)
            owners.setdefault(int(place), {})[name, int(dim)] = state[key].cpu()
    return tuple(Coupling(owners[place]) for place in sorted(owners))
