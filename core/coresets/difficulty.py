"""How hard a sample was to learn, from its training passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from core.coresets.inputs import present
from core.rounding import count

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from core.coresets.samples import Samples

Difficulty: TypeAlias = Literal["aum", "forgetting"]


def difficulty(samples: Samples, kind: Difficulty) -> Tensor:
    """Float64, at least 0, higher = harder, always finite.

    ``aum`` (area under the margin): 1 - the mean margin over the training passes. ``forgetting``: how often a sample
    was forgotten; one that was never learnt counts as once more than the most forgotten.
    Our readings: the mean, where the original sums, since coresets train on samples unequally often; a sample without
    any pass, or without a finite margin, has a margin of 0.
    """
    if kind == "aum":
        return 1 - present(samples.margin_N, "history").double().nan_to_num(0, 0, 0)
    forgotten_N = present(samples.forgotten_N, "history")
    unlearnt_N = (forgotten_N == 0) & ~present(samples.correct_N, "history")
    return forgotten_N.double().masked_fill(unlearnt_N, int(forgotten_N.max()) + 1)


def without_hardest(score_N: Tensor, share: float, size: int, rng: torch.Generator) -> Tensor:
    """Indices of all but the hardest ``share``, in [0, 1], the easiest first; at least ``size`` of them.

    Equals are in random order: counts have many, and the order of a data set may be that of its classes.
    """
    import torch

    keep = max(size, len(score_N) - count(share, len(score_N)))
    order_N = torch.randperm(len(score_N), generator=rng).to(score_N.device)
    return order_N[score_N[order_N].sort(stable=True).indices[:keep]]
