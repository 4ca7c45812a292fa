"""From a source to a bundle: subset, validation split, label noise, statistics, digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.data.bundle import Bundle, Split
from core.data.memory import check_fits
from core.data.noise import flip_labels
from core.data.source import DataError, RawImages, Source
from core.data.split import draw_part
from core.rng import generator

if TYPE_CHECKING:
    from core.data.source import Images, Labels


def load_bundle(source: Source, device: str | torch.device = "cpu") -> Bundle:
    """Everything that a run reads of its data set, on ``device``. A function of the source's fields and files alone.

    Raises ``DataError`` when the files are missing, damaged or too few for what is asked, or too much for the memory.
    """
    raw = source.load()
    _check_labels(raw, source.name)
    num_classes = len(raw.class_names)
    kept = len(raw.train_labels) if source.subset is None else source.subset
    check_fits(kept + len(raw.test_labels), raw.test_images[np.array([0])].nbytes, source.name)
    train, val = _train_and_val(source, raw)
    test = Split(_decode(raw.test_images, np.arange(len(raw.test_labels))), torch.from_numpy(raw.test_labels))
    _check_images((train, val, test), source.name)
    rng = generator(source.split_seed, "noise")
    labels_N, flipped_N = flip_labels(train.labels, num_classes, source.label_noise, rng)
    train = Split(train.images, labels_N)
    mean_C, std_C = channel_statistics(train.images)
    return Bundle(
        train=_to(train, device),
        val=_to(val, device),
        test=_to(test, device),
        num_classes=num_classes,
        class_names=raw.class_names,
        mean_C=mean_C.to(device),
        std_C=std_C.to(device),
        flipped_N=flipped_N.to(device),
        digest=_digest(num_classes, train, val, test, flipped_N),
    )


def channel_statistics(images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the bytes per channel, float32. Exact: taken from a histogram of the 256 values.

    The deviation is at least 1, one byte step, so that a constant channel can be divided by it.
    """
    histogram = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images_NCHW.transpose(0, 1)]).double()
    value = torch.arange(256, dtype=torch.float64)
    total_C = histogram.sum(1)
    mean_C = histogram @ value / total_C
    std_C = (histogram @ value.square() / total_C - mean_C.square()).clamp(min=1.0).sqrt()
    return mean_C.float(), std_C.float()


def _train_and_val(source: Source, raw: RawImages) -> tuple[Split, Split]:
    labels_N = torch.from_numpy(raw.train_labels)
    facts = source.sized(len(labels_N), len(raw.test_labels), len(raw.class_names), (0, 0, 0))
    kept = torch.arange(len(labels_N))
    if source.subset is not None:
        kept, _ = draw_part(labels_N, source.subset, source.split_seed, "subset")
    parts = reversed(draw_part(labels_N[kept], facts.val_size, source.split_seed, "val"))
    train, val = (Split(_decode(raw.train_images, kept[part].numpy()), labels_N[kept[part]]) for part in parts)
    return train, val


def _decode(images: Images, rows: Labels) -> Tensor:
    return torch.from_numpy(images[rows])


def _check_labels(raw: RawImages, name: str) -> None:
    classes = len(raw.class_names)
    for part, labels in (("training", raw.train_labels), ("test", raw.test_labels)):
        if len(labels) == 0:
            raise DataError(f"{name} has no {part} images: check data.root")
        if labels.min() < 0 or labels.max() >= classes:
            found = f"labels from {labels.min()} to {labels.max()}"
            raise DataError(
                f"{name} has {found} in its {part} part, but {classes} classes, 0 to {classes - 1}: "
                "correct the labels or the class names"
            )


def _check_images(splits: tuple[Split, ...], name: str) -> None:
    shapes = sorted({tuple(split.images.shape[1:]) for split in splits})
    if len(shapes) > 1:
        raise DataError(f"{name} has images of different shapes (channels, height, width): {shapes}; make them equal")


def _to(split: Split, device: str | torch.device) -> Split:
    return Split(split.images.to(device), split.labels.to(device))


def _digest(num_classes: int, train: Split, val: Split, test: Split, flipped_N: Tensor) -> str:
    digest = hashlib.sha256(f"{num_classes} classes".encode())
    for part in (train.images, train.labels, val.images, val.labels, test.images, test.labels, flipped_N):
        digest.update(f"/{part.dtype}{tuple(part.shape)}/".encode())
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
