"""Symmetric label noise."""

from __future__ import annotations

import torch
from torch import Tensor

from core.data.source import DataError
from core.rounding import count


def flip_labels(labels_N: Tensor, num_classes: int, fraction: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace floor(fraction * N + 1/2) labels, each by a class drawn uniformly from the others.

    Returns the new labels and which of them were flipped. With one generator state, the flips of a smaller fraction
    are among those of a larger. Raises ``DataError`` when there is no other class.
    """
    flips = count(fraction, len(labels_N))
    if flips and num_classes < 2:
        raise DataError(f"data.label_noise {fraction} needs 2 classes or more, and there is {num_classes}: set it to 0")
    flipped_N = torch.zeros(len(labels_N), dtype=torch.bool)
    flipped_N[torch.randperm(len(labels_N), generator=rng)[:flips]] = True
    shift_N = torch.randint(1, max(2, num_classes), (len(labels_N),), generator=rng)
    return torch.where(flipped_N, (labels_N + shift_N) % num_classes, labels_N), flipped_N
