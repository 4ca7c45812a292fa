"""Image files that are decoded when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from core.data.source import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from core.data.source import Bytes, Labels

Mode = Literal["L", "RGB"]
DEEP = ("I", "F")
"""How the names of modes begin that hold more than 8 bits a pixel: to convert them would cut and not scale."""


@dataclass(frozen=True)
class EncodedImages:
    """Images as encoded bytes or file paths; an ``Images`` whose rows come out in one mode and size.

    ``mode`` is RGB or gray. With ``side`` every image is scaled and centre-cropped to that square, without it all
    must have the size of the first. ``origin`` names the data set in errors.
    """

    items: Sequence[bytes | str]
    mode: Mode
    origin: str
    side: int | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Labels, /) -> Bytes:
        """The images of these rows, uint8, n x C x H x W. Raises ``DataError`` naming the row that cannot be used."""
        import numpy as np

        decoded = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            decoded[place] = self._decode(row, decoded.shape[1:])
        return decoded

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width; decodes one image unless ``side`` says it."""
        width, height = (self.side, self.side) if self.side else self.open(0).size
        return len(self.mode), height, width

    def _decode(self, row: int, shape: tuple[int, ...]) -> Bytes:
        import numpy as np
        from PIL import ImageOps

        image = self.open(row)
        if image.mode.startswith(DEEP):
            raise DataError(f"image {row} of {self.origin} has more than 8 bits a pixel: convert it to 8")
        if self.mode == "L" and mode_of(image) != "L":
            raise DataError(f"image {row} of {self.origin} has colour, but the first one is gray: convert it")
        image = image.convert(self.mode)
        if self.side:
            image = ImageOps.fit(image, (self.side, self.side))
        if (image.height, image.width) != shape[1:]:
            size = f"{image.width} x {image.height} pixels, not {shape[2]} x {shape[1]}"
            raise DataError(f"image {row} of {self.origin} has {size}: set data.image_size to scale all images")
        return np.asarray(image).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)

    def open(self, row: int) -> Image:
        """One image as its file has it. Raises ``DataError`` when it cannot be decoded."""
        from PIL import Image

        item = self.items[row]
        try:
            image = Image.open(io.BytesIO(item) if isinstance(item, bytes) else item)
            image.load()
        except (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"image {row} of {self.origin} cannot be decoded ({error}): get the files again") from error
        return image


def mode_of(image: Image) -> Mode:
    """Gray for one-channel images, RGB for all others."""
    return "L" if image.mode in ("1", "L", "LA") else "RGB"
