"""Wide residual networks [Zagoruyko & Komodakis 2016]."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import Count, plugin

if TYPE_CHECKING:
    from torch import nn


@plugin
class WideResNet(Model):
    """WRN-``depth``-``widen``: three stages of 16, 32 and 64 times ``widen`` channels, (``depth`` - 4) / 6 blocks each.

    Any image size: the last feature map is averaged.
    """

    name: Literal["wide_resnet"] = "wide_resnet"
    summary: ClassVar[str] = "WRN-22-2 by default, 1.1 M parameters: pre-activation blocks of 32 to 128 channels"
    depth: Count = 22
    """Layers: 4 more than a multiple of 6."""
    widen: Count = 2
    """Times the channels of a ResNet of this form."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Any shape. Raises ``ValueError`` unless ``depth`` is 6 n + 4."""
        from torch import nn

        from core.models.residual import WideResidual, convolution

        blocks, rest = divmod(self.depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"wide_resnet has depth 6 n + 4 and cannot have {self.depth}: take 10, 16, 22, 28, 34, 40")
        widths = [16 * self.widen * 2**stage for stage in range(3) for _ in range(blocks)]
        stages = [
            WideResidual(inputs, outputs, 2 if place in (blocks, 2 * blocks) else 1)
            for place, (inputs, outputs) in enumerate(pairwise((16, *widths)))
        ]
        return nn.Sequential(
            convolution(image_shape[0], 16),
            *stages,
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], num_classes),
        )
