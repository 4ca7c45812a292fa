"""A data set made ready for training: bytes on the device, split, with label noise and a digest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images as uint8 (N x C x H x W) and labels as int64 (N), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> Split:
        """The split on ``device``; itself when it is there."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Bundle:
    """Everything that a run reads of its data set.

    ``mean_C`` and ``std_C`` are of the training split's bytes, per channel, in units of one byte step.
    ``flipped_N`` marks the training labels that label noise changed. ``digest`` is a sha256 over images, labels,
    splits and flips: two bundles with one digest train alike.
    """

    train: Split
    val: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    mean_C: Tensor
    std_C: Tensor
    flipped_N: Tensor
    digest: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def chance(self) -> float:
        """Accuracy of a uniform guess, 1 / C."""
        return 1.0 / self.num_classes

    def to(self, device: str | torch.device) -> Bundle:
        """The bundle on ``device``, sharing what is there already."""
        return replace(
            self,
            train=self.train.to(device),
            val=self.val.to(device),
            test=self.test.to(device),
            mean_C=self.mean_C.to(device),
            std_C=self.std_C.to(device),
            flipped_N=self.flipped_N.to(device),
        )
