"""Residual networks [He et al. 2016] of torchvision, with the stem that is usual for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import plugin

if TYPE_CHECKING:
    from torch import nn


@plugin
class _ResNet(Model):
    """torchvision's network. Any image size: the last feature map is averaged.

    ``stem`` cifar is a 3x3 convolution of stride 1 without pooling; imagenet is torchvision's own, 7x7 of stride 2 and
    a max-pooling, which quarters the resolution and suits images of 96 pixels and more.
    """

    stem: Literal["cifar", "imagenet"] = "cifar"
    """3x3 convolution of stride 1 without pooling, or 7x7 of stride 2 with max-pooling."""
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]]
    depths: ClassVar[tuple[int, int, int, int]]

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Any shape."""
        from torch import nn
        from torchvision.models import resnet

        blocks = getattr(resnet, self.block), list(self.depths)
        network: nn.Module = resnet.ResNet(*blocks, num_classes=num_classes)
        small = self.stem == "cifar"
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        network.conv1 = stem = nn.Conv2d(image_shape[0], 64, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        if small:
            network.maxpool = nn.Identity()
        return network


@plugin
class ResNet18(_ResNet):
    """18 layers."""

    name: Literal["resnet18"] = "resnet18"
    summary: ClassVar[str] = "ResNet-18 with a CIFAR stem, 11.2 M parameters: the paper's small network"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "BasicBlock"
    depths: ClassVar[tuple[int, int, int, int]] = (2, 2, 2, 2)


@plugin
class ResNet34(_ResNet):
    """34 layers."""

    name: Literal["resnet34"] = "resnet34"
    summary: ClassVar[str] = "ResNet-34 with a CIFAR stem, 21.3 M parameters"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "BasicBlock"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)


@plugin
class ResNet50(_ResNet):
    """50 layers in bottleneck blocks."""

    name: Literal["resnet50"] = "resnet50"
    summary: ClassVar[str] = "ResNet-50 with a CIFAR stem, 23.5 M parameters"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "Bottleneck"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 4, 6, 3)


@plugin
class ResNet101(_ResNet):
    """101 layers in bottleneck blocks."""

    name: Literal["resnet101"] = "resnet101"
    summary: ClassVar[str] = "ResNet-101 with a CIFAR stem, 42.5 M parameters: the paper's large network"
    block: ClassVar[Literal["BasicBlock", "Bottleneck"]] = "Bottleneck"
    depths: ClassVar[tuple[int, int, int, int]] = (3, 4, 23, 3)
