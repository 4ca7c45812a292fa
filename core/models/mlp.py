"""Fully connected layers on the flattened image."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import Count, plugin

if TYPE_CHECKING:
    from torch import nn


@plugin
class Mlp(Model):
    """Linear layers of ``hidden`` widths with ReLU between them; none leaves logistic regression."""

    name: Literal["mlp"] = "mlp"
    summary: ClassVar[str] = "fully connected layers with ReLU"
    hidden: tuple[Count, ...] = (256, 128)
    """Widths of the hidden layers."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Any shape."""
        from torch import nn

        widths = (prod(image_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
