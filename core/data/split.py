"""Splits that keep the share of every class, fixed by the split's seed and by nothing else."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from core.rng import generator
from core.rounding import largest_remainder

Part = Literal["subset", "val", "test"]

_STEP: dict[Part, int] = {"subset": 0, "val": 1, "test": 2}


def draw_part(labels_N: Tensor, size: int, split_seed: int, part: Part) -> tuple[Tensor, Tensor]:
    """``stratified`` with the randomness of one part of a data set: who is in it does not depend on the other parts."""
    return stratified(labels_N, size, generator(split_seed, "split", step=_STEP[part]))


def stratified(labels_N: Tensor, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose exactly ``size`` samples, each class by its share (largest remainder); chosen and rest, both ascending.

    Each class is shuffled once and its first samples are taken, so a larger choice with the same seed contains a
    smaller one wherever the quotas grow. Raises ``ValueError`` when ``size`` exceeds the number of samples.
    """
    counts = torch.bincount(labels_N)
    quotas = torch.tensor(largest_remainder(counts.tolist(), size, counts.tolist()))
    shuffled_N = torch.randperm(len(labels_N), generator=rng)
    by_class_N = shuffled_N[torch.argsort(labels_N[shuffled_N], stable=True)]
    first_N = (counts.cumsum(0) - counts).repeat_interleave(counts)
    chosen_N = torch.arange(len(labels_N)) - first_N < quotas.repeat_interleave(counts)
    return by_class_N[chosen_N].sort().values, by_class_N[~chosen_N].sort().values
