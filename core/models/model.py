"""The protocol of a model family."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]


class Model:
    """An architecture. Subclasses are plug-ins; their fields are its hyper-parameters.

    The classifier is the last ``nn.Linear`` in module order, and its inputs are the features.
    """

    name: str
    semantics_version: ClassVar[int] = 1
    """Raised whenever the same hyper-parameters give another network or other initial weights."""
    summary: ClassVar[str] = ""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """A new network from images (B x C x H x W, ``image_shape`` = C, H, W) to logits (B x ``num_classes``).

        Initial weights come from torch's global generator. Raises ``ValueError`` for a shape it cannot take.
        """
        raise NotImplementedError
