"""Facility location: the points that are nearest to all others, greedily."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2**25
"""Entries of a matrix that are held at once while it is gone through in chunks of rows."""


def facility_location(rows: Callable[[Tensor], Tensor], reach_N: Tensor, picks: int) -> tuple[Tensor, Tensor]:
    """Greedily pick points so that the sum over all of the distance to the nearest pick is least.

    ``rows(index_K)`` gives the distances of some points to all, K x N; they are symmetric. ``reach_N`` stands for the
    distance to the nearest pick while there is none: the same number N times, no smaller than any distance. Ties go to
    the lowest index. Returns the picks in order, and how many points each is the nearest pick of, the earlier one of
    equals; a pick counts itself.

    This is the exact greedy choice, not a lazy or a sampled one. What every point would gain is kept up to date: a pick
    changes it only through those points that it is nearer to, and each point changes its nearest pick a few times in
    all, so that about as many rows are read as there are points times the logarithm of ``picks``.
    """
    import torch

    n, near_N = len(reach_N), reach_N.clone()
    everyone = torch.arange(n, device=reach_N.device)
    gain_N = torch.zeros_like(near_N, dtype=torch.float64)
    for part in chunks(everyone, n):
        gain_N += (near_N[part, None] - rows(part)).sum(0, dtype=torch.float64)
    nearest_N, chosen = torch.zeros_like(everyone), []
    for k in range(picks):
        pick = gain_N.argmax()
        distance_N = rows(pick[None])[0]
        nearer = (distance_N < near_N).nonzero().flatten()
        for part in chunks(nearer, n):
            before, after = near_N[part, None], distance_N[part, None]
            gain_N -= (before - rows(part).clamp(after, before)).sum(0, dtype=torch.float64)
        near_N[nearer] = distance_N[nearer]
        nearest_N[nearer] = nearest_N[pick] = k
        gain_N[pick] = -torch.inf
        chosen.append(pick)
    return torch.stack(chosen), nearest_N.bincount(minlength=picks)


def chunks(index: Tensor, width: int) -> tuple[Tensor, ...]:
    """``index`` in parts whose rows of ``width`` entries make up about a block."""
    import torch

    return torch.split(index, max(1, BLOCK // width))
