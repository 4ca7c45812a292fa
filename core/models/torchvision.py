"""Any classifier of torchvision, by name, with its own initial weights; no trained ones are fetched."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import Text, plugin

if TYPE_CHECKING:
    from torch import nn

CHANNELS = 3
WITHOUT_HEADS: dict[str, Any] = {"aux_logits": False, "init_weights": True}
"""For the two architectures that would return the logits of auxiliary classifiers too while they train."""
OPTIONS: dict[str, dict[str, Any]] = {"googlenet": WITHOUT_HEADS, "inception_v3": WITHOUT_HEADS}


@plugin
class Torchvision(Model):
    """``architecture`` is a name of ``torchvision.models.list_models(module=torchvision.models)``.

    Images must be RGB and as large as the architecture asks for (``data.image_size`` scales them); vision transformers
    are built for the images' size. SqueezeNet, whose classifier is a convolution, is refused.
    """

    name: Literal["torchvision"] = "torchvision"
    semantics_version: ClassVar[int] = 2
    summary: ClassVar[str] = "any classifier of torchvision by name, without trained weights; RGB images"
    architecture: Text = "mobilenet_v3_small"
    """Name of a classifier of torchvision."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Raises ``ValueError`` for an unknown architecture, one without a linear classifier, and images not RGB."""
        from torch import nn
        from torchvision import models

        self._check(models.list_models(module=models), image_shape[0])
        options: dict[str, Any] = OPTIONS.get(self.architecture, {})
        if self.architecture.startswith("vit_"):
            options = {"image_size": image_shape[1]}
        network: nn.Module = models.get_model(self.architecture, weights=None, num_classes=num_classes, **options)
        if not any(isinstance(module, nn.Linear) for module in network.modules()):
            raise ValueError(f"torchvision's {self.architecture} has no linear classifier: take another architecture")
        if self.architecture.startswith("vit_"):
            # It starts at zero: every score of its weights is a tie then, and no gradient reaches the layers below it.
            nn.init.trunc_normal_(network.get_parameter("heads.head.weight"), std=0.02)
        return network

    def _check(self, known: list[str], channels: int) -> None:
        if self.architecture not in known:
            near = get_close_matches(self.architecture, known) or known
            raise ValueError(f"torchvision has no classifier {self.architecture!r}; the nearest are {', '.join(near)}")
        if channels != CHANNELS:
            given = f"{channels} channel" + "s" * (channels > 1)
            raise ValueError(f"torchvision's {self.architecture} takes RGB images, not {given}: take another model")
