"""Removing whole channels or hidden units, along a cubic schedule. Methods differ in which, and in their importance."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from typing_extensions import override

from core.plugin import plugin
from core.pruning.couplings import Coupling, Structure, read, recorded, surgery_of
from core.pruning.cuts import Place, Surgery
from core.pruning.schedule import density_at
from core.pruning.scheduled import Scheduled
from core.rounding import count

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Change, State, View
    from core.pruning.scope import Group

Shapes: TypeAlias = Mapping[str, Sequence[int]]
Channel: TypeAlias = tuple[int, int]
"""The place of its coupling, and its own place there."""


@dataclass(frozen=True)
class Aim:
    """``target`` of the weights of these ``shapes`` shall stay, as channels of the couplings at ``places`` leave."""

    shapes: Shapes
    places: frozenset[int]
    target: int


@plugin
class Structured(Scheduled):
    """Remove the least important channels; the network shrinks with every removal.

    Our reading of a prune rate: the share of the group's weights that is gone, so many channels being removed that it
    is as near as can be, of two equally near the fewer. Channels that the classifier reads, its features, go by the
    classifier's rate where it has one of its own, and are all that leaves under scope classifier and all that stays
    whole under scope backbone. A layer's last channel and the classifier's outputs always stay. ``allocation``:
    importances compare across layers as multiples of their layer's mean (global), or within a layer only, and all
    layers lose the same share of their channels (uniform). The state holds how many weights each layer and channels
    each coupling had, which share of the rate is reached, and the couplings, followed once and cut since like the
    network.
    """

    allocation: Literal["global", "uniform"] = "global"
    """Whether importances compare across layers, or all layers lose the same share of their channels."""

    when: ClassVar[str] = "from start to end, at every update_every; nothing comes back"
    cost: ClassVar[str] = "the network's graph once, seconds; a copy of the network per update"

    def choose(self, structure: Structure) -> tuple[Coupling, ...]:
        """The couplings whose channels may be removed."""
        return structure.couplings

    def worth(self, coupling: Coupling, weights: Mapping[str, Tensor]) -> Tensor:
        """What each channel is worth (C), >= 0. ``weights``: all parameters of the network."""
        raise NotImplementedError

    @override
    def check(self, structure: Structure, groups: Sequence[Group]) -> None:
        found, wanted, gone = self._alike(structure, groups, 1.0)
        for group, aim in zip(groups, wanted, strict=True):
            left, total = (remaining(aim.shapes, found, removed) for removed in (gone, Counter[int]()))
            if left > aim.target and all(gone[place] == found[place].channels - 1 for place in aim.places):
                raise ValueError(self._out_of_reach(group, math.floor(1000 * (1 - left / total)) / 1000))

    @override
    def foretold(self, structure: Structure, groups: Sequence[Group], position: float) -> Mapping[str, float]:
        found, _, gone = self._alike(structure, groups, position)
        shapes = structure.shapes
        return {name: remaining({name: shape}, found, gone) / math.prod(shape) for name, shape in shapes.items()}

    def _alike(
        self, structure: Structure, groups: Sequence[Group], position: float
    ) -> tuple[Sequence[Coupling], Sequence[Aim], Counter[int]]:
        """How many channels leave each coupling of a whole network when all layers lose the same share of theirs."""
        found = self.choose(structure)
        wanted = aims(groups, _totals(_sizes(structure), groups), found, structure, position)
        order = order_alike(tuple(one.channels for one in found))
        return found, wanted, Counter(place for place, _ in leaving(found, order, wanted))

    def _out_of_reach(self, group: Group, most: float) -> str:
        where = group.layers[0] if len(group.layers) == 1 else f"the {len(group.layers)} layers in scope"
        can = f"can remove {most:g} of the weights of {where}, keeping one of a layer's {self.removes}"
        return f"pruner {self.name} {can}, not {group.prune_rate:g}: lower the rate or choose another scope or pruner"

    @override
    def init(self, view: View) -> tuple[State, Change | None]:
        import torch

        structure = view.probe.structure()
        self.check(structure, view.groups)
        found = self.choose(structure)
        whole = {
            "weights": torch.tensor([*_sizes(structure).values()]),
            "channels": torch.tensor([one.channels for one in found]),
        }
        return {**whole, "position": torch.zeros(()), **recorded(found)}, None

    def once(self, structure: Structure, groups: Sequence[Group]) -> Surgery:
        """The removal of all that the groups' rates ask for, or of as much as can go."""
        found = self.choose(structure)
        wanted = aims(groups, _totals(_sizes(structure), groups), found, structure, 1.0)
        return surgery_of(found, self._stays(structure, found, [one.channels for one in found], wanted))

    def _stays(
        self, structure: Structure, found: Sequence[Coupling], first: Sequence[int], wanted: Sequence[Aim]
    ) -> tuple[Tensor, ...]:
        """Which channels of each coupling (C, bool) stay; ``first`` as for ``removal_order``."""
        import torch

        weights = structure.weights
        order = removal_order([self.worth(one, weights) for one in found], self.allocation, first)
        stays = tuple(torch.ones(one.channels, dtype=torch.bool) for one in found)
        for place, channel in leaving(found, order, wanted):
            stays[place][channel] = False
        return stays

    @override
    def met(self, state: State, view: View) -> bool:
        return bool(state["position"] == 1)

    @override
    def approach(self, state: State, view: View, position: float) -> tuple[State, Change | None]:
        import torch

        found, structure = read(state), view.probe.structure()
        whole = dict(zip(structure.shapes, state["weights"].tolist(), strict=True))
        wanted = aims(view.groups, _totals(whole, view.groups), found, structure, position)
        stays = self._stays(structure, found, state["channels"].tolist(), wanted)
        surgery = surgery_of(found, stays)
        left = tuple(one.after(stays_C) for one, stays_C in zip(found, stays, strict=True))
        reached = {**state, "position": torch.tensor(position), **recorded(left)}
        return reached, surgery if surgery.kept else None


def _sizes(structure: Structure) -> dict[str, int]:
    """How many weights each layer has."""
    return {layer: math.prod(shape) for layer, shape in structure.shapes.items()}


def _totals(sizes: Mapping[str, int], groups: Sequence[Group]) -> list[int]:
    return [sum(sizes[layer] for layer in group.layers) for group in groups]


def aims(
    groups: Sequence[Group],
    totals: Sequence[int],
    found: Sequence[Coupling],
    structure: Structure,
    position: float,
) -> list[Aim]:
    """What each group aims at; ``totals``: how many weights each had at first, ``found``: the couplings now."""
    shapes, made = structure.shapes, []
    for group, total in zip(groups, totals, strict=True):
        inside = {layer: shapes[layer] for layer in group.layers}
        places = frozenset(i for i, one in enumerate(found) if reader(one, structure.classifier) in inside)
        made.append(Aim(inside, places, count(density_at(group.prune_rate, position), total)))
    return made


def reader(coupling: Coupling, classifier: str) -> str:
    """The layer whose group the channels leave by: the classifier where it reads them, else any that does."""
    readers = [name for name, dim in coupling.owner if dim == 1]
    return classifier if classifier in readers else readers[0]


def removal_order(
    scores: Sequence[Tensor], allocation: Literal["global", "uniform"], first: Sequence[int]
) -> list[Channel]:
    """Channels in the order in which they leave; ``first``: how many each coupling had in the whole network.

    The least important goes first, of equal ones the last. The best of every coupling is not among them.
    """
    ranked: list[tuple[float, int, int]] = []
    for place, (score_C, whole) in enumerate(zip(scores, first, strict=True)):
        worth = score_C.double().tolist()
        mean = sum(worth) / len(worth) or 1.0
        ordered = sorted((value, -channel) for channel, value in enumerate(worth))
        for rank, (own, channel) in enumerate(ordered[:-1]):
            # By the share of the whole, so that many small cuts come to what one large cut does.
            value = (whole - len(worth) + rank) / whole if allocation == "uniform" else own / mean
            ranked.append((value, -place, channel))
    return [(-place, -channel) for _, place, channel in sorted(ranked)]


@lru_cache(maxsize=8)
def order_alike(channels: tuple[int, ...]) -> list[Channel]:
    """The order in which couplings of so many channels, all worth the same, lose the same share of theirs."""
    import torch

    return removal_order([torch.zeros(number) for number in channels], "uniform", channels)


def leaving(found: Sequence[Coupling], order: Sequence[Channel], wanted: Sequence[Aim]) -> list[Channel]:
    """The channels that leave, in this ``order`` within each group.

    The classifier's group goes first: its features take weights of the backbone along, and not the other way round.
    """
    gone: list[Channel] = []
    for aim in reversed(wanted):
        mine = [channel for channel in order if channel[0] in aim.places]
        places = [place for place, _ in gone + mine]
        left = partial(_left, found, aim.shapes, places, len(gone))
        gone += mine[: nearest(left, len(mine), aim.target)]
    return gone


def _left(found: Sequence[Coupling], shapes: Shapes, places: Sequence[int], before: int, removed: int) -> int:
    return remaining(shapes, found, Counter(places[: before + removed]))


def remaining(shapes: Shapes, found: Sequence[Coupling], removed: Mapping[int, int]) -> int:
    """How many weights the layers of these ``shapes`` keep when so many channels leave the coupling at each place."""
    lost: dict[Place, int] = {}
    for place, gone in removed.items():
        coupling = found[place]
        lost |= {held: gone * coupling.width(held) for held in coupling.owner if held[0] in shapes}
    return sum(
        math.prod(size - lost.get((name, dim), 0) for dim, size in enumerate(shape)) for name, shape in shapes.items()
    )


def nearest(left: Callable[[int], int], most: int, target: int) -> int:
    """The number of removals, up to ``most``, after which ``left``, which falls, is nearest to ``target``."""
    first = bisect_left(range(most + 1), -target, key=lambda removed: -left(removed))
    return min((n for n in (first - 1, first) if 0 <= n <= most), key=lambda n: abs(left(n) - target))
