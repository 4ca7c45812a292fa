"""One layer at a low rank, found by search."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import Fraction, Text, plugin
from core.projection import truncated
from core.pruning.cuts import Surgery
from core.pruning.pruner import Passes, Pruner
from core.pruning.schedule import begins, density_at
from core.rounding import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.pruning.couplings import Structure
    from core.pruning.pruner import Change, Moment, Removal, State, View
    from core.pruning.scope import Group

RATES = (0.0, 0.1, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995)


@plugin
class LowRank(Pruner):
    """Once, at ``start``, replace one linear layer by two: its weight's truncated singular value decomposition.

    The rank is round(full rank * (1 - rate)), at least 1; the rate is the one of least validation loss, of several the
    lowest. ``layer`` is the layer's name in the model; null takes the largest in scope. ``start`` is a fraction of the
    epochs, null the epoch of the first selection. The state holds whether it is done.
    Our readings: rates up to the prune rate are searched, itself among them, so that the prune rate is the most that
    may go of the rank; a rate whose factors would hold no fewer weights than the matrix is left out, for without
    factors the next step would restore the rank.
    """

    name: Literal["lowrank"] = "lowrank"
    layer: Text | None = None
    """Of the model, by name; null: the largest linear one in scope."""
    start: Fraction | None = None
    """Of the epochs, when it acts; null: with the first selection."""

    summary: ClassVar[str] = "one linear layer as two of low rank, the rank searched on the validation split"
    source: ClassVar[str] = "arXiv 2406.03768"
    cost: ClassVar[str] = "a singular value decomposition and up to nine passes over the validation split, once"
    when: ClassVar[str] = "once, at start"
    needs: ClassVar[frozenset[Literal["validation"]]] = frozenset({"validation"})
    removes: ClassVar[Removal] = "ranks"

    @override
    def init(self, view: View) -> tuple[State, Change | None]:
        import torch

        self.check(view.probe.structure(), view.groups)
        return {"done": torch.tensor(False)}, None

    @override
    def step(self, state: State, view: View) -> tuple[State, Change | None]:
        import torch

        moment = view.moment
        first = begins(self.start, moment.epochs, moment.first_selection)
        if moment.epoch < first or bool(state["done"]):
            return state, None
        name = self._weight(view.probe.structure(), view.groups)
        rank = self._search(view, name)
        done = {"done": torch.tensor(True, device=state["done"].device)}
        return done, None if rank is None else Surgery(ranks={name: rank})

    @override
    def check(self, structure: Structure, groups: Sequence[Group]) -> None:
        self._weight(structure, groups)

    def _weight(self, structure: Structure, groups: Sequence[Group]) -> str:
        """The weight of the chosen layer. Raises ``ValueError`` when there is none of that name in scope."""
        inside = {name for group in groups for name in group.layers}
        sizes = {n: layer.weight.numel() for n, layer in structure.linear.items() if f"{n}.weight" in inside}
        if not sizes:
            raise ValueError("pruner lowrank finds no linear layer in scope: choose another scope or pruner")
        if self.layer not in {None, *sizes}:
            raise ValueError(f"pruner.layer {self.layer} is no linear layer in scope: set one of {', '.join(sizes)}")
        return f"{self.layer or max(sizes, key=sizes.__getitem__)}.weight"

    def _search(self, view: View, name: str) -> int | None:
        """The rank of least validation loss; ``None`` where that is the full one."""
        weight = view.weights[name]
        rate = next(group.prune_rate for group in view.groups if name in group.layers)
        best, least = None, view.probe.validation_loss({name: weight})
        if not math.isfinite(least):
            return None  # a run that diverges is told after its epoch, and has no decomposition
        for rank in ranks(weight.shape, rate):
            up_OR, down_RI = truncated(weight, rank)
            loss = view.probe.validation_loss({name: up_OR @ down_RI})
            if loss < least:
                best, least = rank, loss
        return best

    @override
    def position(self, moment: Moment) -> float:
        return float(moment.epoch >= begins(self.start, moment.epochs, moment.first_selection))

    @override
    def updates(self, moment: Moment) -> int:
        return int(moment.epoch == begins(self.start, moment.epochs, moment.first_selection))

    @override
    def acts_from(self, epochs: int, first_selection: int) -> int:
        return begins(self.start, epochs, first_selection)

    @override
    def reads(self) -> frozenset[str]:
        return frozenset({"warmup_epochs", "select_every", "schedule"} if self.start is None else ())

    @override
    def passes_at_update(self) -> Passes:
        return Passes(forward=len(RATES) + 1, samples="validation")


def ranks(shape: Sequence[int], prune_rate: float) -> list[int]:
    """The ranks below the full one that are tried for a matrix, falling: those whose factors hold fewer weights."""
    outputs, inputs = shape
    rates = {rate for rate in RATES if rate < prune_rate} | {prune_rate}
    tried = {max(1, count(density_at(rate, 1.0), min(shape))) for rate in rates}
    return sorted((rank for rank in tried if rank * (outputs + inputs) < outputs * inputs), reverse=True)
