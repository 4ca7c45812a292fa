"""Image data sets in the parquet layout of public data hubs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.data.encoded import EncodedImages, mode_of
from core.data.source import DataError, Facts, RawImages, Source
from core.plugin import Count, Text, plugin

if TYPE_CHECKING:
    import pyarrow as pa

    from core.data.source import Labels

_IMAGE_COLUMNS = ("img", "image")


@plugin
class Parquet(Source):
    """``root``/train-*.parquet and test-*.parquet: column ``img`` or ``image`` with encoded bytes, and integer labels.

    Class names are those of the schema's ``huggingface`` metadata, else the label numbers. ``image_size`` scales and
    centre-crops images to squares; without it all must have one size.
    """

    name: Literal["parquet"] = "parquet"
    summary: ClassVar[str] = "train-*.parquet and test-*.parquet with encoded images, the layout of public data hubs"
    root: Text = "data/cifar10"
    """Folder that holds the files."""
    label: Text = "label"
    """Column of the integer labels."""
    image_size: Count | None = None
    """Height and width in pixels that images are scaled and cropped to; null leaves them as they are."""

    def facts(self) -> Facts:
        """From footers, one image and, without class names, the labels. Raises ``DataError`` as ``load``."""
        train, test = self._shards("train"), self._shards("test")
        first = self._images(train, head=True)
        classes = train.class_names(self.label) or _numbered(train.labels(self.label))
        return self.sized(train.rows, test.rows, len(classes), first.shape)

    def load(self) -> RawImages:
        """Read labels and encoded images. Raises ``DataError`` for missing or damaged files and unfit columns."""
        train, test = self._shards("train"), self._shards("test")
        train_images = self._images(train)
        labels = train.labels(self.label)
        return RawImages(
            train_images=train_images,
            train_labels=labels,
            test_images=EncodedImages(test.images(), train_images.mode, f"{self.root}/test", self.image_size),
            test_labels=test.labels(self.label),
            class_names=train.class_names(self.label) or _numbered(labels),
        )

    def _shards(self, split: str) -> _Shards:
        paths = tuple(sorted(Path(self.root).glob(f"{split}-*.parquet")))
        if not paths:
            raise DataError(
                f"no {split}-*.parquet at {self.root}: download an image data set as parquet files (columns img and "
                "label) from a public data hub to there, or name another folder with --set data.root=PATH"
            )
        return _Shards(paths)

    def _images(self, train: _Shards, *, head: bool = False) -> EncodedImages:
        """The training images, or the first alone; gray when the first is gray."""
        origin = f"{self.root}/train"
        if train.rows == 0:
            raise DataError(f"{origin} has no rows: get the files again")
        items = train.images(head=head)
        mode = mode_of(EncodedImages(items, "RGB", origin).open(0))
        return EncodedImages(items, mode, origin, self.image_size)


@dataclass(frozen=True)
class _Shards:
    """The parquet files of one split, in the order of their names."""

    paths: tuple[Path, ...]

    @property
    def rows(self) -> int:
        """Rows of all files, from their footers."""
        import pyarrow.parquet as pq

        with _reading(self.paths):
            return sum(pq.read_metadata(path).num_rows for path in self.paths)

    def labels(self, column: str) -> Labels:
        """The labels of all rows. Raises ``DataError`` when the column is missing or is not of integers."""
        import numpy as np
        import pyarrow as pa

        table = self._read(self._column((column,)))
        kind = table.schema.field(0).type
        if not pa.types.is_integer(kind) or table.column(0).null_count:
            found = f"{kind} with {table.column(0).null_count} missing values"
            raise DataError(f"column {column} of {self.paths[0]} is {found}, not whole numbers: use another file")
        return np.array(table.column(0).to_numpy(), dtype=np.int64)

    def images(self, *, head: bool = False) -> list[bytes]:
        """The encoded images of all rows, or of the first alone."""
        import pyarrow.compute as pc

        name = self._column(_IMAGE_COLUMNS)
        table = self._read(f"{name}.bytes", head=head)
        encoded: list[bytes | None] = pc.struct_field(table.column(0), [0]).to_pylist() if table.num_columns else [None]
        present = [image for image in encoded if image is not None]
        if len(present) < len(encoded):
            reason = "must be a struct with bytes in every row"
            raise DataError(f"column {name} of {self.paths[0]} {reason}: use another file")
        return present

    def class_names(self, column: str) -> tuple[str, ...]:
        """Names of the label's classes in the schema's metadata; empty when it has none."""
        metadata = self._schema().metadata or {}
        try:
            names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        except (KeyError, TypeError, ValueError):
            return ()
        return tuple(str(name) for name in names)

    def _schema(self) -> pa.Schema:
        import pyarrow.parquet as pq

        with _reading(self.paths):
            return pq.read_schema(self.paths[0])

    def _column(self, wanted: tuple[str, ...]) -> str:
        present = self._schema().names
        for name in wanted:
            if name in present:
                return name
        found = f"only {', '.join(present)}"
        raise DataError(f"{self.paths[0]} has no column {' or '.join(wanted)}, {found}: use another file")

    def _read(self, column: str, *, head: bool = False) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _reading(self.paths):
            if head:
                rows = pq.ParquetFile(self.paths[0]).iter_batches(batch_size=1, columns=[column])
                return pa.Table.from_batches(list(islice(rows, 1)))
            return pa.concat_tables([pq.ParquetFile(path).read(columns=[column]) for path in self.paths])


@contextmanager
def _reading(paths: tuple[Path, ...]) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{paths[0].parent} has a damaged parquet file ({reason}): get the files again") from error


def _numbered(labels: Any) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(labels.max()) + 1))
