"""Masks by exact counts. True keeps a weight.

A CPU converts and selects by booleans one at a time. Bytes of 0 and 1 it multiplies as it does numbers, and NumPy finds
the places of what is true: the same results in a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EVERY = 17
"""A sample takes every 17th score: of the usual widths of layers none is a multiple of it."""


def top(scores: Tensor, keep: int) -> Tensor:
    """True at the ``keep`` highest scores, shaped like ``scores``; of equal scores the lowest index wins.

    NaN counts as infinity: it is the gradient of a network that diverges.
    """
    import torch

    flat = scores.flatten()
    if not keep:
        return torch.zeros_like(flat, dtype=torch.bool).view(scores.shape)
    candidates = _candidates(flat, keep)
    # A stable sort of millions takes far longer on a CPU; topk's own indices leave ties open. To topk NaN is most.
    highest = candidates.topk(keep, sorted=False).values
    if bool(highest.amax().isnan()):
        return top(scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf), keep)
    least = highest.amin()
    mask = flat >= least
    surplus = int((candidates >= least).sum()) - keep
    if surplus:
        mask[places(flat == least)[-surplus:]] = False
    return mask.view(scores.shape)


def _candidates(flat: Tensor, keep: int) -> Tensor:
    """Fewer scores, the ``keep`` highest and every NaN among them: a CPU selects from them several times as fast.

    Those not below a bound that a sample sets somewhat too low; all of them where it is too high nevertheless.
    """
    sample, expected = flat[::EVERY], keep / EVERY
    rank = math.ceil(expected + 4 * math.sqrt(expected) + 4)
    if flat.device.type != "cpu" or rank > len(sample) // 2:
        return flat
    above = flat[places(~(flat < sample.topk(rank, sorted=False).values.amin()))]
    return above if len(above) >= keep else flat


def top_of_each(scores: Mapping[str, Tensor], keep: Mapping[str, int]) -> dict[str, Tensor]:
    """The ``keep[layer]`` highest scores of every layer."""
    return {layer: top(score, keep[layer]) for layer, score in scores.items()}


def top_of_all(scores: Mapping[str, Tensor], keep: int) -> dict[str, Tensor]:
    """The ``keep`` highest scores of all layers together; of equal scores the first layer's lowest index wins."""
    import torch

    chosen = top(torch.cat([score.flatten() for score in scores.values()]), keep)
    parts = torch.split(chosen, [score.numel() for score in scores.values()])
    return {layer: part.view(score.shape) for (layer, score), part in zip(scores.items(), parts, strict=True)}


def places(where: Tensor) -> Tensor:
    """The places of what is true, counted as in the flattened ``where``, ascending."""
    import numpy as np
    import torch

    if where.device.type != "cpu":
        return where.flatten().nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(where.numpy()))


def weigh(keep: Tensor) -> Tensor:
    """A layer's mask as bytes of 0 and 1, to multiply by: the same memory."""
    import torch

    return keep.view(torch.uint8)


def kept(mask: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights each layer keeps."""
    return {layer: int(keep.count_nonzero()) for layer, keep in mask.items()}


def equal(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> bool:
    """Whether both keep the same weights of the same layers."""
    return old.keys() == new.keys() and all(bool((old[layer] == keep).all()) for layer, keep in new.items())


def density(mask: Mapping[str, Tensor]) -> float:
    """Share of weights kept, in [0, 1]; 1 for a mask of no layers."""
    total = sum(keep.numel() for keep in mask.values())
    return sum(kept(mask).values()) / total if total else 1.0
