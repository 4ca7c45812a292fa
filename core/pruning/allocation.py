"""How a group's kept weights are divided among its layers. Counts are exact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from core.pruning.mask import kept, top_of_all, top_of_each
from core.pruning.schedule import density_at
from core.pruning.scope import Group
from core.rounding import count, largest_remainder

if TYPE_CHECKING:
    from torch import Tensor

    from core.pruning.pruner import Mask

Allocation: TypeAlias = Annotated[
    Literal["global", "uniform", "erk"],
    Field(description="Among layers: by their scores, one rate for all, or more kept in narrow ones (ERK)."),
]
Shape: TypeAlias = Sequence[int]


def uniform(shapes: Sequence[Shape], density: float) -> list[int]:
    """Every layer at the same density, each rounded for itself."""
    return [count(density, math.prod(shape)) for shape in shapes]


def erk(shapes: Sequence[Shape], total: int, room: Sequence[int]) -> list[int]:
    """Erdős-Rényi-Kernel: ``total`` weights, a layer's density proportional to sum(shape) / prod(shape).

    So its count is proportional to fan_in + fan_out + kernel height + kernel width. Layers whose share exceeds their
    ``room`` are filled and the rest is divided anew among the others. arXiv 1911.11134, appendix.
    """
    shares = [sum(shape) for shape in shapes]
    full = {i for i in range(len(shapes)) if total * shares[i] > room[i] * sum(shares)}
    if not full:
        return largest_remainder(shares, total)
    rest = [i for i in range(len(shapes)) if i not in full]
    left = total - sum(room[i] for i in full)
    parts = dict(zip(rest, erk([shapes[i] for i in rest], left, [room[i] for i in rest]), strict=True))
    return [parts.get(i, room[i]) for i in range(len(shapes))]


def total(shapes: Sequence[Shape], density: float, allocation: Allocation) -> int:
    """How many weights all layers keep together."""
    if allocation == "uniform":
        return sum(uniform(shapes, density))
    return count(density, sum(map(math.prod, shapes)))


def keep_top(
    groups: Iterable[Group],
    scores: Mapping[str, Tensor],
    allocation: Allocation,
    *,
    position: float = 1.0,
    within: Mask | None = None,
) -> Mask:
    """The mask of the highest scores, every group at its own rate times ``position``.

    With ``within``, only weights kept there may stay: whatever the scores (then each >= 0) and the rounding say,
    nothing regrows.
    """
    mask: dict[str, Tensor] = {}
    for group in groups:
        inside = {layer: scores[layer] for layer in group.layers}
        room = {layer: score.numel() for layer, score in inside.items()}
        if within is not None:
            inside = {layer: score.masked_fill(~within[layer], -1) for layer, score in inside.items()}
            room = kept({layer: within[layer] for layer in inside})
        mask |= _keep_top(inside, density_at(group.prune_rate, position), allocation, room)
    return mask


def _keep_top(scores: Mapping[str, Tensor], density: float, allocation: Allocation, room: Mapping[str, int]) -> Mask:
    shapes = [tuple(score.shape) for score in scores.values()]
    left = total(shapes, density, allocation)
    if allocation == "global":
        return top_of_all(scores, left)
    counts = uniform(shapes, density) if allocation == "uniform" else erk(shapes, left, list(room.values()))
    return top_of_each(scores, dict(zip(scores, counts, strict=True)))
