"""Choosing from scores, over all samples or class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from core.rounding import largest_remainder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.coresets.samples import Samples


def highest(score_N: Tensor, size: int) -> Tensor:
    """The indices of the ``size`` highest scores, ascending; of equal scores the lowest index is chosen first.

    Raises ``ValueError`` when there are fewer than ``size``.
    """
    if size > len(score_N):
        raise ValueError(f"cannot choose {size} of {len(score_N)} samples")
    return score_N.sort(descending=True, stable=True).indices[:size].sort().values


def highest_at_random(score_N: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """As ``highest``, but equal scores are in random order: that of a data set may be that of its classes."""
    import torch

    shuffled_N = torch.randperm(len(score_N), generator=rng).to(score_N.device)
    return shuffled_N[highest(score_N[shuffled_N], size)].sort().values


def quotas(labels_N: Tensor, num_classes: int, size: int) -> list[int]:
    """How many samples of each class: ``size`` in proportion to the class counts, by largest remainder.

    Raises ``ValueError`` when there are fewer than ``size`` samples.
    """
    counts: list[int] = labels_N.bincount(minlength=num_classes).tolist()
    return largest_remainder(counts, size, limits=counts)


def classes(labels_N: Tensor, num_classes: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """The indices of each class's samples and its quota; classes whose quota is 0 are left out."""
    yield from _groups(labels_N, quotas(labels_N, num_classes, size))


def per_class(labels_N: Tensor, num_classes: int, size: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Every class's quota, ascending: ``choose`` is given a class's indices and returns positions among them."""
    return per_group(labels_N, quotas(labels_N, num_classes, size), choose)


def per_group(group_N: Tensor, shares: Sequence[int], choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """As many of each group as its share, ascending; ``choose`` as for ``per_class``."""
    import torch

    parts = [index[choose(index, share)] for index, share in _groups(group_N, shares)]
    return torch.cat([group_N.new_empty(0, dtype=torch.int64), *parts]).sort().values


def picked(samples: Samples, size: int, choose: Callable[[Tensor, int], Tensor], *, balanced: bool) -> Tensor:
    """``size`` indices, ascending: every class's quota of its own where ``balanced``, else of all samples as one.

    ``choose`` as for ``per_class``. Raises ``ValueError`` when there are fewer.
    """
    import torch

    labels_N = samples.labels_N
    if balanced:
        return per_class(labels_N, samples.num_classes, size, choose)
    if size > len(labels_N):
        raise ValueError(f"cannot choose {size} of {len(labels_N)} samples")
    return choose(torch.arange(len(labels_N), device=labels_N.device), size).sort().values


def best(
    samples: Samples, score_N: Tensor, size: int, *, balanced: bool, ties: torch.Generator | None = None
) -> Tensor:
    """The indices of the ``size`` highest scores, as ``picked``; of equal ones by index, or drawn from ``ties``."""

    def choose(index: Tensor, quota: int) -> Tensor:
        own = score_N[index]
        return highest(own, quota) if ties is None else highest_at_random(own, quota, ties)

    return picked(samples, size, choose, balanced=balanced)


def _groups(group_N: Tensor, shares: Sequence[int]) -> Iterator[tuple[Tensor, int]]:
    for group, share in enumerate(shares):
        if share:
            yield (group_N == group).nonzero().flatten(), share
