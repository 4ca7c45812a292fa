"""Networks to train."""

from typing import TYPE_CHECKING, TypeAlias

from core.models.cifar_resnet import ResNet20, ResNet56
from core.models.mlp import Mlp
from core.models.model import Model
from core.models.resnet import ResNet18, ResNet34, ResNet50, ResNet101
from core.models.small_cnn import SmallCnn
from core.models.torchvision import Torchvision
from core.models.vit import VitSmall, VitTiny
from core.models.wide_resnet import WideResNet
from core.plugin import choice, named

__all__ = ["MODELS", "Model", "ModelChoice"]

MODELS: dict[str, type[Model]] = named(
    (
        SmallCnn,
        Mlp,
        ResNet18,
        ResNet34,
        ResNet50,
        ResNet101,
        ResNet20,
        ResNet56,
        WideResNet,
        VitSmall,
        VitTiny,
        Torchvision,
    )
)

if TYPE_CHECKING:
    ModelChoice: TypeAlias = Model
else:
    ModelChoice = choice(MODELS)
