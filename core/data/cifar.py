"""CIFAR-10 and CIFAR-100 in their original binary form, read by torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.data.source import DataError, Facts, RawImages, Source
from core.plugin import Flag, Text, plugin

if TYPE_CHECKING:
    from core.data.source import Bytes


@plugin
class _Cifar(Source):
    """What the two have in common. ``root`` holds, or with ``download`` will hold, the unpacked archive's folder."""

    root: Text = "data"
    """Folder that holds the unpacked archive's folder."""
    download: Flag = False
    """Whether torchvision fetches it where it is missing."""
    totals: ClassVar[tuple[int, int]] = (50_000, 10_000)
    folder: ClassVar[str]
    reader: ClassVar[str]
    classes: ClassVar[int]

    def facts(self) -> Facts:
        """Known in advance; only the folder is looked for. Raises ``DataError`` when it is not there."""
        if not self.download and not (Path(self.root) / self.folder).is_dir():
            raise self._missing("not there")
        return self.sized(*self.totals, self.classes, (3, 32, 32))

    def load(self) -> RawImages:
        """Unpack all batches. Raises ``DataError`` when one is missing or fails its checksum."""
        import numpy as np

        train, test = self._read(train=True), self._read(train=False)
        return RawImages(
            train_images=_channels_first(train.data),
            train_labels=np.array(train.targets, dtype=np.int64),
            test_images=_channels_first(test.data),
            test_labels=np.array(test.targets, dtype=np.int64),
            class_names=tuple(train.classes),
        )

    def _read(self, *, train: bool) -> Any:
        from pickle import UnpicklingError

        from torchvision import datasets

        try:
            return getattr(datasets, self.reader)(self.root, train=train, download=self.download)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, UnpicklingError) as error:
            raise self._missing(str(error)) from error

    def _missing(self, reason: str) -> DataError:
        where = f"{self.name} cannot be read from {Path(self.root) / self.folder} ({reason})"
        advice = "check that this machine is online;" if self.download else "--set data.download=true fetches it,"
        return DataError(f"{where}: {advice} --set data.root=PATH names another folder")


def _channels_first(images_NHWC: Bytes) -> Bytes:
    import numpy as np

    return np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))


@plugin
class Cifar10(_Cifar):
    """The original pixels of CIFAR-10 [Krizhevsky 2009]."""

    name: Literal["cifar10"] = "cifar10"
    summary: ClassVar[str] = "CIFAR-10 as published, 50 000 + 10 000 images, 32x32 colour; torchvision fetches it"
    folder: ClassVar[str] = "cifar-10-batches-py"
    reader: ClassVar[str] = "CIFAR10"
    classes: ClassVar[int] = 10


@plugin
class Cifar100(_Cifar):
    """The original pixels of CIFAR-100 with its 100 fine labels [Krizhevsky 2009]."""

    name: Literal["cifar100"] = "cifar100"
    summary: ClassVar[str] = "CIFAR-100 as published, 50 000 + 10 000 images, 32x32 colour; torchvision fetches it"
    folder: ClassVar[str] = "cifar-100-python"
    reader: ClassVar[str] = "CIFAR100"
    classes: ClassVar[int] = 100
