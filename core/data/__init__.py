"""Data sets: where images come from, and how they are made ready for training (``core.data.load.load_bundle``)."""

from typing import TYPE_CHECKING, TypeAlias

from core.data.cifar import Cifar10, Cifar100
from core.data.digits import Digits
from core.data.image_folder import ImageFolder, TinyImageNet
from core.data.parquet import Parquet
from core.data.source import DataError, Facts, Source
from core.data.synthetic import Synthetic
from core.plugin import choice, named

__all__ = ["SOURCES", "DataError", "Facts", "Source", "SourceChoice"]

SOURCES: dict[str, type[Source]] = named((Digits, Cifar10, Cifar100, TinyImageNet, ImageFolder, Parquet, Synthetic))

if TYPE_CHECKING:
    SourceChoice: TypeAlias = Source
else:
    SourceChoice = choice(SOURCES)
