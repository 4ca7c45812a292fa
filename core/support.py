"""What leaves with the samples at a switch: the support of the removed weights, and the shock to those that stay.

Per-sample gradients of the cross-entropy are taken in evaluation mode, at the weights and the mask of the switch, on
at most a given number of samples of each side: the new coreset and the whole training set. Convolutions and linear
layers are looked at; attention projections are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.data.bundle import Split
from core.events import Support
from core.network import Network

ELEMENTS = 2**26
"""Entries of the per-sample gradients that are held at once."""
CHUNK = 256
NOTHING = 1e-8
"""A class whose gradients on the removed weights sum to less than this has no support to lose."""


@dataclass(frozen=True)
class Sides:
    """The samples that are looked at (U of them), and which of them stand for what."""

    index_U: Tensor
    full_U: Tensor
    coreset_U: Tensor
    random_U: Tensor


def measure(
    network: Network,
    train: Split,
    index_M: Tensor,
    mask: Mapping[str, Tensor],
    weights: Mapping[str, Tensor] | None,
    *,
    num_classes: int,
    samples: int,
    rng: torch.Generator,
) -> Support:
    """Compare the coreset ``index_M`` with the whole of ``train``, on at most ``samples`` of each.

    ``mask``: True = live; a layer that is not in it is all live. ``weights``: the effective ones where they are not
    the stored ones.
    """
    sides = _sides(len(train), index_M, samples, rng)
    labels_U = train.labels[sides.index_U]
    norm_U, shock = _gradients(network, train, sides, mask, weights)

    def lost(side_U: Tensor) -> tuple[float, ...]:
        return lost_support(norm_U, labels_U, side_U, sides.full_U, len(index_M), num_classes)

    by_class = lost(sides.coreset_U)
    return Support(
        lost=worst(by_class),
        lost_by_class=by_class,
        lost_random=worst(lost(sides.random_U)),
        shock=shock,
        class_imbalance=class_imbalance(train.labels[index_M], train.labels, num_classes),
        samples=len(labels_U),
    )


def lost_support(
    norm_U: Tensor, labels_U: Tensor, coreset_U: Tensor, full_U: Tensor, size: float, num_classes: int
) -> tuple[float, ...]:
    """Lambda of each class, from the gradient norms of the samples that stand for the coreset and the full set.

    ``coreset_U`` and ``full_U`` are flags; each side's sums are scaled to a coreset of ``size`` samples.
    """
    norm_U = norm_U.double()

    def support(side_U: Tensor) -> Tensor:
        total_C = norm_U.new_zeros(num_classes).index_add(0, labels_U, norm_U * side_U)
        return total_C * (size / max(1, int(side_U.sum())))

    kept_C, fair_C = support(coreset_U), support(full_U)
    lost_C = 1 - (kept_C / fair_C.clamp_min(NOTHING)).clamp(max=1)
    return tuple(lost_C.where(fair_C >= NOTHING, math.nan).tolist())


def worst(lost_by_class: tuple[float, ...]) -> float:
    """The largest that is a number; NaN when none is."""
    return max((lost for lost in lost_by_class if not math.isnan(lost)), default=math.nan)


def class_imbalance(labels_M: Tensor, labels_N: Tensor, num_classes: int) -> float:
    """Half the sum over the classes of the difference between their shares, in [0, 1]."""
    share_M, share_N = (
        labels.bincount(minlength=num_classes).double() / len(labels) for labels in (labels_M, labels_N)
    )
    return float((share_M - share_N).abs().sum()) / 2


def _sides(train_size: int, index_M: Tensor, samples: int, rng: torch.Generator) -> Sides:
    device = index_M.device
    full = torch.randperm(train_size, generator=rng)[:samples].to(device)
    chosen = index_M[torch.randperm(len(index_M), generator=rng)[:samples].to(device)]
    at_random = torch.randperm(train_size, generator=rng)[: len(chosen)].to(device)
    index_U = torch.unique(torch.cat([full, chosen, at_random]))
    return Sides(index_U, *(torch.isin(index_U, side) for side in (full, chosen, at_random)))


def _gradients(
    network: Network, train: Split, sides: Sides, mask: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None
) -> tuple[Tensor, float]:
    """Per sample the norm of its gradient on the removed weights; and the shock."""
    flags_SU = torch.stack([sides.coreset_U, sides.full_U]).float()
    share_SU = flags_SU / flags_SU.sum(1, keepdim=True)
    norms, means = [], dict[str, Tensor]()
    for place_B, gradients in _chunks(network, train, sides.index_U, weights):
        square_B = torch.zeros(len(place_B), device=place_B.device)
        for name, gradient in gradients.items():
            flat_BW = gradient.flatten(1)
            if name in mask:
                square_B += flat_BW.square() @ (~mask[name]).flatten().float()
            mean_SW = share_SU[:, place_B] @ flat_BW
            means[name] = mean_SW + means[name] if name in means else mean_SW
        norms.append(square_B.sqrt())
    live = [mean_SW * mask[name].flatten() if name in mask else mean_SW for name, mean_SW in means.items()]
    of_coreset, of_full = torch.stack([mean_SW.square().sum(1) for mean_SW in live]).sum(0).sqrt().tolist()
    return torch.cat(norms), of_coreset / of_full if of_full > 0 else math.nan


def _chunks(
    network: Network, train: Split, index_U: Tensor, weights: Mapping[str, Tensor] | None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    room = ELEMENTS // sum(weight.numel() for weight in network.weights.values())
    place_U = torch.arange(len(index_U), device=index_U.device)
    for place_B in torch.split(place_U, max(1, min(CHUNK, room))):
        index_B = index_U[place_B]
        yield place_B, network.sample_gradients(train.images[index_B], train.labels[index_B], weights)
