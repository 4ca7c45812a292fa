"""Blocks of residual networks on small images. Loads torch: the models import it when they are built."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def convolution(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    """Without bias, since a batch norm follows; keeps the image's size at stride 1. Weights as in He et al. 2015."""
    made = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)) [He et al. 2016]: two 3x3 convolutions, each with batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            convolution(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs and project:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, stride, 1), nn.BatchNorm2d(outputs))
        elif inputs != outputs:
            self.shortcut = Pad(stride, outputs - inputs)

    def forward(self, images: Tensor) -> Tensor:
        """B x inputs x H x W to B x outputs x ceil(H / stride) x ceil(W / stride)."""
        return F.relu(self.body(images) + self.shortcut(images))


class Pad(nn.Module):
    """Every ``stride``-th pixel of each row and column, with ``channels`` of zeros behind the given ones."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, images: Tensor) -> Tensor:
        """As its block's body."""
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class WideResidual(nn.Module):
    """body(a) + shortcut, a = relu(norm(x)) [Zagoruyko & Komodakis 2016].

    The shortcut is x itself, or a 1x1 convolution of a where the number of channels changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.body = nn.Sequential(
            convolution(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            convolution(outputs, outputs),
        )
        self.shortcut = convolution(inputs, outputs, stride, 1) if inputs != outputs else None

    def forward(self, images: Tensor) -> Tensor:
        """B x inputs x H x W to B x outputs x ceil(H / stride) x ceil(W / stride)."""
        active = F.relu(self.norm(images))
        kept = images if self.shortcut is None else self.shortcut(active)
        output: Tensor = self.body(active) + kept
        return output
