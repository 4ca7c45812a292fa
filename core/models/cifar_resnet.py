"""The residual networks that He et al. 2016 made for CIFAR: three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import plugin

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (16, 32, 64)


@plugin
class _CifarResNet(Model):
    """``blocks`` blocks in each of three stages. Any image size: the last feature map is averaged.

    ``shortcut`` pad is the paper's option A, on which its sizes and accuracies rest: every second pixel, channels
    padded with zeros, no weights. projection is option B, a 1x1 convolution with batch norm where the shape changes.
    """

    shortcut: Literal["pad", "projection"] = "pad"
    """Where the shape changes: zeros for the new channels, or a 1x1 convolution."""
    blocks: ClassVar[int]

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Any shape."""
        from torch import nn

        from core.models.residual import Residual, convolution

        widths = [width for width in WIDTHS for _ in range(self.blocks)]
        stages = [
            Residual(inputs, outputs, 1 if inputs == outputs else 2, project=self.shortcut == "projection")
            for inputs, outputs in pairwise((WIDTHS[0], *widths))
        ]
        return nn.Sequential(
            convolution(image_shape[0], WIDTHS[0]),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(WIDTHS[-1], num_classes),
        )


@plugin
class ResNet20(_CifarResNet):
    """20 layers."""

    name: Literal["resnet20"] = "resnet20"
    summary: ClassVar[str] = "ResNet-20 of He et al. for CIFAR, 16 to 64 channels, 0.27 M parameters"
    blocks: ClassVar[int] = 3


@plugin
class ResNet56(_CifarResNet):
    """56 layers."""

    name: Literal["resnet56"] = "resnet56"
    summary: ClassVar[str] = "ResNet-56 of He et al. for CIFAR, 16 to 64 channels, 0.85 M parameters"
    blocks: ClassVar[int] = 9
