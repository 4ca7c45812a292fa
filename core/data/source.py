"""The protocol of a data source, and the fields that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, Strict

from core.plugin import Count, Natural, plugin

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without decoding an image; ``train_size`` is after subset and validation split."""

    train_size: int
    val_size: int
    test_size: int
    num_classes: int
    image_shape: tuple[int, int, int]
    """Channels, height, width."""


@dataclass(frozen=True)
class RawImages:
    """Decoded images as the source ships them: uint8, N x C x H x W, labels int64."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


class DataError(ValueError):
    """A data set that cannot be used: one sentence that says what is missing and how to get it."""


@plugin
class Source:
    """Fields shared by every data source."""

    summary: ClassVar[str] = ""
    val_fraction: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.1
    split_seed: Natural = 0
    subset: Count | None = None
    label_noise: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0

    def facts(self) -> Facts:
        """Sizes and shapes, cheaply. Raises ``DataError`` when the files are not there."""
        raise NotImplementedError

    def load(self) -> RawImages:
        """Decode everything. Raises ``DataError`` when the files are not there or are not what they should be."""
        raise NotImplementedError
