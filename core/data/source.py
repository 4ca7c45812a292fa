"""The protocol of a data source, and the fields that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeAlias

from pydantic import Field, Strict

from core.plugin import Count, Natural, plugin
from core.rounding import count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without decoding an image; ``train_size`` is after subset and validation split."""

    train_size: int
    val_size: int
    test_size: int
    num_classes: int
    image_shape: tuple[int, int, int]
    """Channels, height, width."""


class Images(Protocol):
    """N images that are decoded when rows are asked for; an array of bytes is one too."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: Labels, /) -> Any:
        """The images of these rows, uint8, n x C x H x W. Raises ``DataError`` when one cannot be decoded."""


@dataclass(frozen=True)
class RawImages:
    """Images as the source ships them, before ``subset`` and the validation split; labels int64."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]


PLACES = frozenset({"root", "download"})
"""Fields of a source that say where its files lie; two cells that differ in these alone are one."""


class DataError(ValueError):
    """A data set that cannot be used: one sentence that says what is missing and how to get it."""


@plugin
class Source:
    """Fields shared by every data source."""

    name: str = ""
    summary: ClassVar[str] = ""
    val_fraction: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.1
    """Of the training images, split off for validation."""
    split_seed: Natural = 0
    """Of subset, validation split and label noise; runs of all seeds share them."""
    subset: Count | None = None
    """So many training images, a stratified draw, the validation split among them; null takes all."""
    label_noise: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0
    """Share of the training labels that is flipped to another class, each alike."""

    def facts(self) -> Facts:
        """Sizes and shapes, cheaply. Raises ``DataError`` when the files are not there."""
        raise NotImplementedError

    def load(self) -> RawImages:
        """All labels, and the images to decode. Raises ``DataError`` for files that are missing or unfit."""
        raise NotImplementedError

    def sized(self, train_total: int, test_total: int, num_classes: int, image_shape: tuple[int, int, int]) -> Facts:
        """The facts of a data set of these totals once ``subset`` and ``val_fraction`` are taken.

        Raises ``DataError`` when they leave no training image or ask for more than there are.
        """
        kept = train_total if self.subset is None else self.subset
        if kept > train_total:
            raise DataError(f"data.subset is {kept}, but {self.name} has {train_total} training images: lower it")
        val_size = count(self.val_fraction, kept)
        if val_size >= kept:
            reason = f"leaves none of {kept} images of {self.name} to train on"
            raise DataError(f"data.val_fraction {self.val_fraction} {reason}: lower it")
        return Facts(kept - val_size, val_size, test_total, num_classes, image_shape)
