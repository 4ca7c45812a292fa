"""Choosing from scores, over all samples or class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from core.rounding import largest_remainder

if TYPE_CHECKING:
    from torch import Tensor


def highest(score_N: Tensor, size: int) -> Tensor:
    """The indices of the ``size`` highest scores, ascending; of equal scores the lowest index is chosen first.

    Raises ``ValueError`` when there are fewer than ``size``.
    """
    if size > len(score_N):
        raise ValueError(f"cannot choose {size} of {len(score_N)} samples")
    return score_N.sort(descending=True, stable=True).indices[:size].sort().values


def quotas(labels_N: Tensor, num_classes: int, size: int) -> list[int]:
    """How many samples of each class: ``size`` in proportion to the class counts, by largest remainder.

    Raises ``ValueError`` when there are fewer than ``size`` samples.
    """
    counts: list[int] = labels_N.bincount(minlength=num_classes).tolist()
    return largest_remainder(counts, size, limits=counts)


def classes(labels_N: Tensor, num_classes: int, size: int) -> Iterator[tuple[Tensor, int]]:
    """The indices of each class's samples and its quota; classes whose quota is 0 are left out."""
    for label, quota in enumerate(quotas(labels_N, num_classes, size)):
        if quota:
            yield (labels_N == label).nonzero().flatten(), quota


def per_class(labels_N: Tensor, num_classes: int, size: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Every class's quota, ascending: ``choose`` is given a class's indices and returns positions among them."""
    import torch

    parts = [index[choose(index, quota)] for index, quota in classes(labels_N, num_classes, size)]
    return torch.cat([labels_N.new_empty(0, dtype=torch.int64), *parts]).sort().values
