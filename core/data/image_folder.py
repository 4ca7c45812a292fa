"""A folder per split, a folder per class, an image per file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field

from core.data.encoded import EncodedImages
from core.data.source import DataError, Facts, RawImages, Source
from core.plugin import Count, Text, plugin

_TEST_FOLDERS = ("test", "val")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
Names = Annotated[
    tuple[Text, ...], Field(min_length=1), AfterValidator(lambda names: tuple(sorted(set(names))))  # order is no matter
]
Listed: TypeAlias = list[tuple[str, int]]
"""Path and label of every image of a split, in a fixed order."""


@plugin
class Folders(Source):
    """What data sets in folders have in common: class names are those of the folders of ``root``/train.

    Images become RGB squares of ``image_size`` pixels: scaled until they cover it, then cropped at the centre.
    """

    root: Text = "data/images"
    """Folder that holds train/ and the folder of the test images."""
    image_size: Count = 32
    """Height and width in pixels that images are scaled and cropped to."""
    classes: Count | Names | None = None
    """Only these classes: their names, or how many of the first by name; null takes all."""

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

    def listed_test(self, label_of: dict[str, int]) -> Listed:
        """The test images of the classes in ``label_of``. Raises ``DataError``."""
        raise NotImplementedError

    def _listed(self) -> tuple[tuple[str, ...], Listed, Listed]:
        """Class names, training and test images."""
        folder = Path(self.root) / "train"
        if not folder.is_dir():
            raise self.missing()
        classes = self._chosen(class_names(folder), folder)
        label_of = {name: label for label, name in enumerate(classes)}
        return classes, files_by_class(folder, label_of), self.listed_test(label_of)

    def _chosen(self, present: tuple[str, ...], folder: Path) -> tuple[str, ...]:
        if self.classes is None:
            return present
        if isinstance(self.classes, int):
            if self.classes > len(present):
                raise DataError(f"data.classes is {self.classes}, but {folder} has {len(present)} classes: lower it")
            return present[: self.classes]
        unknown = sorted(set(self.classes) - set(present))
        if unknown:
            raise DataError(f"data.classes names {unknown[0]}, and {folder} has no such folder: correct it")
        return self.classes

    def missing(self) -> DataError:
        """What to say when the files are not there."""
        raise NotImplementedError


@plugin
class ImageFolder(Folders):
    """``root``/train/CLASS/FILE and ``root``/test/CLASS/FILE (or val/), as torchvision's ImageFolder reads them.

    ImageNet lies so once its validation images are sorted into folders.
    """

    name: Literal["image_folder"] = "image_folder"
    summary: ClassVar[str] = "images in train/CLASS/ and test/CLASS/ or val/CLASS/ (ImageNet too), scaled to one size"

    def listed_test(self, label_of: dict[str, int]) -> Listed:
        """From test/, else val/: the first that has class folders."""
        there = [folder for name in _TEST_FOLDERS if (folder := Path(self.root) / name).is_dir()]
        if not there:
            raise self.missing()
        # ImageNet's own test/ has images and no classes: its labels were never published.
        folder = next((one for one in there if any(path.is_dir() for path in one.iterdir())), there[0])
        train = Path(self.root) / "train"
        differing = set(label_of) - set(class_names(folder))
        if self.classes is None:
            differing = set(label_of) ^ set(class_names(folder))
        if differing:
            raise DataError(f"{train} and {folder} must hold the same classes, and differ in {sorted(differing)}")
        return files_by_class(folder, label_of)

    def missing(self) -> DataError:
        """Both layouts, with their place."""
        return DataError(
            f"no image folders at {self.root}: put images in {self.root}/train/CLASS and {self.root}/test/CLASS "
            "or val/CLASS, or name another folder with --set data.root=PATH"
        )


@plugin
class TinyImageNet(Folders):
    """TinyImageNet as published: ``root``/train/CLASS/images/FILE, and val/images with val/val_annotations.txt.

    The validation images are the test set, as usual: those of test/ have no labels.
    """

    name: Literal["tiny_imagenet"] = "tiny_imagenet"
    summary: ClassVar[str] = "TinyImageNet as published, 100 000 + 10 000 images of 200 classes, 64x64 colour"
    root: Text = "data/tiny-imagenet-200"
    image_size: Count = 64

    def listed_test(self, label_of: dict[str, int]) -> Listed:
        """From the annotations: file, class and four numbers in each line, between tabs."""
        folder = Path(self.root) / "val"
        try:
            lines = (folder / "val_annotations.txt").read_text().splitlines()
        except OSError as error:
            raise self.missing() from error
        found = [line.split("\t")[:2] for line in lines if line.strip()]
        bad = next((number for number, parts in enumerate(found, start=1) if len(parts) < 2), None)
        if bad is not None:
            raise DataError(f"line {bad} of {folder}/val_annotations.txt names no class: get the files again")
        strange = {name for _, name in found} - set(class_names(Path(self.root) / "train"))
        if strange:
            raise DataError(
                f"{folder}/val_annotations.txt names {min(strange)}, a class that train/ lacks: get the files again"
            )
        return [(str(folder / "images" / file), label_of[name]) for file, name in found if name in label_of]

    def missing(self) -> DataError:
        """The published layout, with its place."""
        return DataError(
            f"no TinyImageNet at {self.root}: unpack tiny-imagenet-200.zip there (train/ and val/val_annotations.txt), "
            "or name another folder with --set data.root=PATH"
        )


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the folders in ``folder``, sorted. Raises ``DataError`` when there is none."""
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if not names:
        raise DataError(f"{folder} holds no folders: every class needs a folder with images in it")
    return names


def files_by_class(folder: Path, label_of: dict[str, int]) -> Listed:
    """The image files below ``folder``/CLASS, as torchvision's ImageFolder lists them, without it: that loads torch.

    Raises ``DataError`` for a class without one.
    """
    files: Listed = []
    for name in sorted(label_of):
        walked = sorted(os.walk(folder / name, followlinks=True))
        paths = [os.path.join(place, file) for place, _, there in walked for file in sorted(there)]
        images = [path for path in paths if path.lower().endswith(EXTENSIONS)]
        if not images:
            raise DataError(f"{folder / name} holds no image ({', '.join(EXTENSIONS)}): every class needs one at least")
        files += [(path, label_of[name]) for path in images]
    return files
