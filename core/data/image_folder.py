"""A folder per split, a folder per class, an image per file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from core.data.encoded import EncodedImages
from core.data.source import DataError, Facts, RawImages, Source
from core.plugin import Count, Text, plugin

_TEST_FOLDERS = ("test", "val")


@plugin
class ImageFolder(Source):
    """``root``/train/CLASS/FILE and ``root``/test/CLASS/FILE (or val/), as torchvision's ImageFolder reads them.

    Images become RGB squares of ``image_size`` pixels: scaled until they cover it, then cropped at the centre.
    """

    name: Literal["image_folder"] = "image_folder"
    summary: ClassVar[str] = "images in train/CLASS/ and test/CLASS/ folders, scaled to one size"
    root: Text = "data/images"
    image_size: Count = 32

    def facts(self) -> Facts:
        """From the names of folders and files. Raises ``DataError`` as ``load``."""
        classes, train, test = self._listed()
        return self.sized(len(train), len(test), len(classes), (3, self.image_size, self.image_size))

    def load(self) -> RawImages:
        """List the files. Raises ``DataError`` when a split is missing or has other classes than the other."""
        import numpy as np

        classes, train, test = self._listed()
        parts = (train, test)
        images = [EncodedImages([path for path, _ in part], "RGB", self.root, self.image_size) for part in parts]
        labels = [np.array([label for _, label in part], dtype=np.int64) for part in parts]
        return RawImages(images[0], labels[0], images[1], labels[1], classes)

    def _listed(self) -> tuple[tuple[str, ...], list[tuple[str, int]], list[tuple[str, int]]]:
        """Class names, and (path, label) of every training and test image in a fixed order."""
        train_folder = Path(self.root) / "train"
        test_folder = next((Path(self.root) / n for n in _TEST_FOLDERS if (Path(self.root) / n).is_dir()), None)
        if not train_folder.is_dir() or test_folder is None:
            raise DataError(
                f"no image folders at {self.root}: put images in {self.root}/train/CLASS and {self.root}/test/CLASS, "
                "or name another folder with --set data.root=PATH"
            )
        (classes, train), (test_classes, test) = _files_by_class(train_folder), _files_by_class(test_folder)
        if classes != test_classes:
            differing = sorted(set(classes) ^ set(test_classes))
            raise DataError(f"{train_folder} and {test_folder} must hold the same classes, and differ in {differing}")
        return classes, train, test


def _files_by_class(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    from torchvision.datasets import ImageFolder as Reader

    try:
        reader = Reader(folder)
    except OSError as error:
        reason = str(error).strip().replace("\n", " ")
        raise DataError(f"{folder} cannot be used ({reason}): every class needs a folder with images in it") from error
    return tuple(reader.classes), reader.samples
