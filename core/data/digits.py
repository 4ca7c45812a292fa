"""Handwritten digits that come with scikit-learn: nothing to download."""

from __future__ import annotations

from typing import ClassVar, Literal

from core.data.source import Facts, RawImages, Source
from core.plugin import plugin
from core.rounding import count

_TOTAL = 1797
_TEST_SIZE = count(0.2, _TOTAL)


@plugin
class Digits(Source):
    """1 797 gray images of 8 x 8 pixels with values 0 to 16; a stratified 20 % are the test set (``split_seed``)."""

    name: Literal["digits"] = "digits"
    summary: ClassVar[str] = "1 797 handwritten digits, 8x8 gray, in scikit-learn itself; trains in seconds on a CPU"

    def facts(self) -> Facts:
        """Known without opening anything."""
        return self.sized(_TOTAL - _TEST_SIZE, _TEST_SIZE, 10, (1, 8, 8))

    def load(self) -> RawImages:
        """Values 0 to 16 stay as they are."""
        import numpy as np
        import torch
        from sklearn.datasets import load_digits

        from core.data.split import draw_part

        digits = load_digits()
        images = digits.images.astype(np.uint8)[:, None]
        labels = digits.target.astype(np.int64)
        parts = draw_part(torch.from_numpy(labels), _TEST_SIZE, self.split_seed, "test")
        test, train = (part.numpy() for part in parts)
        names = tuple(str(name) for name in digits.target_names)
        return RawImages(images[train], labels[train], images[test], labels[test], names)
