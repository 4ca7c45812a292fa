"""Training-time augmentation of whole batches, on the batch's device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


def none(images_BCHW: Tensor, rng: torch.Generator) -> Tensor:
    """The batch as it is; nothing is drawn."""
    return images_BCHW


def crop_flip(images_BCHW: Tensor, rng: torch.Generator, padding: int = 4) -> Tensor:
    """Random crop of the image padded by ``padding`` zeros on each side, then a horizontal flip of every second one.

    Any dtype. On bytes the border is black, as with torchvision's RandomCrop before Normalize, and it takes half the
    time; on normalised floats the border is the mean colour. Draws on the CPU from ``rng``.
    """
    import torch
    from torch.nn.functional import pad

    B, _, _, _ = images_BCHW.shape
    shift_2B = torch.randint(0, 2 * padding + 1, (2, B), generator=rng)
    flip_B = torch.randint(0, 2, (B,), generator=rng, dtype=torch.bool)
    padded = pad(images_BCHW, (padding, padding, padding, padding))
    return _windows(padded, images_BCHW.shape[2:], shift_2B.to(padded.device), flip_B.to(padded.device))


def _windows(padded_BCPQ: Tensor, size: torch.Size, shift_2B: Tensor, flip_B: Tensor) -> Tensor:
    """The H x W window of each image that starts at its (row, column) shift, mirrored where ``flip_B`` says so.

    One gather over flattened pixels: 2 to 5 times faster on the CPU than indexing rows and columns, unfolded windows,
    or a loop over shifts.
    """
    import torch

    (B, C, _, Q), (H, W) = padded_BCPQ.shape, size
    row_BH = shift_2B[0, :, None] + torch.arange(H, device=padded_BCPQ.device)
    column_W = torch.arange(W, device=padded_BCPQ.device)
    column_BW = shift_2B[1, :, None] + torch.where(flip_B[:, None], W - 1 - column_W, column_W)
    pixel_BHW = row_BH[:, :, None] * Q + column_BW[:, None, :]
    index = pixel_BHW.view(B, 1, H * W).expand(B, C, H * W)
    return padded_BCPQ.flatten(2).gather(2, index).view(B, C, H, W)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "crop_flip": crop_flip}
