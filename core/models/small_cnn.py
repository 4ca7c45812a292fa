"""Three convolutions and a classifier: seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import Count, plugin

if TYPE_CHECKING:
    from torch import nn


MAP = 4
"""Height and width of the map that the classifier reads."""


@plugin
class SmallCnn(Model):
    """3x3 convolutions of ``width``, 2 ``width`` and 2 ``width`` channels, each with batch norm and ReLU.

    The second is followed by 2 x 2 max-pooling. The classifier reads the third's map averaged to 4 x 4, so that it has
    as many inputs whatever the image's size (an 8 x 8 image's map is 4 x 4 already).
    """

    name: Literal["small_cnn"] = "small_cnn"
    summary: ClassVar[str] = "3 convolutions with batch norm, 2 poolings, 1 linear layer"
    width: Count = 16
    """Channels of the first convolution."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Raises ``ValueError`` for images that pooling would leave without a pixel."""
        from torch import nn

        channels, height, width = image_shape
        if min(height, width) < 2:
            raise ValueError(f"small_cnn needs images of at least 2 x 2 pixels, not {height} x {width}: take model mlp")
        return nn.Sequential(
            *_convolution(channels, self.width),
            *_convolution(self.width, 2 * self.width),
            nn.MaxPool2d(2),
            *_convolution(2 * self.width, 2 * self.width),
            nn.AdaptiveAvgPool2d(MAP),
            nn.Flatten(),
            nn.Linear(2 * self.width * MAP * MAP, num_classes),
        )


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    from torch import nn

    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
