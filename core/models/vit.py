"""A small vision transformer [Dosovitskiy et al. 2021] of torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.models.model import ImageShape, Model
from core.plugin import Count, plugin

if TYPE_CHECKING:
    from torch import nn


@plugin
class _Vit(Model):
    """``depth`` encoder blocks of ``heads`` heads on square patches of ``patch`` pixels; ``mlp`` hidden units each."""

    patch: Count = 4
    """Height and width of a patch in pixels."""
    dim: Count = 192
    """Width of the encoder."""
    depth: Count
    """Encoder blocks."""
    heads: Count = 3
    """Of the attention in a block."""
    mlp: Count
    """Hidden units of a block."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Raises ``ValueError`` unless the images are squares that ``patch`` divides, and ``heads`` divides ``dim``."""
        from torch import nn
        from torchvision.models import VisionTransformer

        self._check(image_shape)
        network: nn.Module = VisionTransformer(
            image_size=image_shape[1],
            patch_size=self.patch,
            num_layers=self.depth,
            num_heads=self.heads,
            hidden_dim=self.dim,
            mlp_dim=self.mlp,
            num_classes=num_classes,
        )
        network.conv_proj = patches = nn.Conv2d(image_shape[0], self.dim, self.patch, self.patch)
        nn.init.trunc_normal_(patches.weight, std=(image_shape[0] * self.patch**2) ** -0.5)
        nn.init.constant_(network.get_parameter("conv_proj.bias"), 0.0)
        # torchvision starts the classifier at zero; then every score of its weights is a tie, and at initialisation
        # no gradient reaches the layers below it.
        nn.init.trunc_normal_(network.get_parameter("heads.head.weight"), std=0.02)
        return network

    def _check(self, image_shape: ImageShape) -> None:
        _, height, width = image_shape
        if height != width or height % self.patch:
            raise ValueError(
                f"{self.name} cuts squares into patches of {self.patch} pixels and cannot take {height} x {width}: "
                "choose a patch that divides the side of square images"
            )
        if self.dim % self.heads:
            raise ValueError(f"{self.name} cannot split dim {self.dim} among {self.heads} heads: take a multiple of it")


@plugin
class VitSmall(_Vit):
    """6 blocks."""

    name: Literal["vit_small"] = "vit_small"
    summary: ClassVar[str] = "small vision transformer on patches of 4 x 4 pixels, 1.8 M parameters"
    depth: Count = 6
    mlp: Count = 384


@plugin
class VitTiny(_Vit):
    """12 blocks: DeiT-Ti [Touvron et al. 2021, arXiv 2012.12877] without distillation, on smaller patches."""

    name: Literal["vit_tiny"] = "vit_tiny"
    summary: ClassVar[str] = "ViT-Ti with patches of 4 x 4 pixels, 12 blocks, 5.4 M parameters"
    depth: Count = 12
    mlp: Count = 768
