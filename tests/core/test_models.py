"""Every model: shapes, seeding, the classifier convention, published sizes."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torchvision.models import VisionTransformer

from core.models import MODELS, ModelChoice

SHAPES = [(1, 8, 8), (3, 32, 32)]
FITTING = [(name, shape) for name in MODELS for shape in SHAPES if name != "torchvision" or shape[0] == 3]


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "shape"), FITTING)
def test_logits_come_from_the_last_linear(name: str, shape: tuple[int, int, int]) -> None:
    network = MODELS[name]().build(shape, 7).eval()
    images, seen = torch.rand(2, *shape), []
    linears(network)[-1].register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    logits = network(images)
    features, output = seen[0]
    assert logits.shape == (2, 7)
    assert logits is output
    assert features.shape == (2, linears(network)[-1].in_features)


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_follow_the_global_seed_and_none_is_constant(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(MODELS[name]().build((3, 8, 8), 3).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    # Every score of a constant weight matrix would be a tie.
    assert all(value.float().std() > 0 for key, value in states[0].items() if value.ndim > 1 and "token" not in key)


@pytest.mark.parametrize("name", MODELS)
def test_declaration(name: str) -> None:
    model: Any = TypeAdapter(ModelChoice).validate_python(name)
    assert model == MODELS[name]()
    assert model.name == name
    assert model.summary
    assert "\n" not in model.summary
    with pytest.raises(pydantic.ValidationError, match="colour"):
        TypeAdapter(ModelChoice).validate_python({"name": name, "colour": 1})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_173_962), ("resnet34", 21_282_122), ("resnet50", 23_520_842), ("resnet101", 42_512_970)],
)
def test_resnets_have_their_published_sizes(name: str, parameters: int) -> None:
    assert size(MODELS[name]().build((3, 32, 32), 10)) == parameters


@pytest.mark.parametrize(
    ("name", "fields", "shape", "classes", "parameters"),
    [
        # He et al. 2016, table 6: 0.27 M and 0.85 M with option A.
        ("resnet20", {}, (3, 32, 32), 10, 269_722),
        ("resnet56", {}, (3, 32, 32), 10, 853_018),
        # Option B adds 16 * 32 + 32 * 64 weights and two batch norms, of 32 and 64 channels.
        ("resnet20", {"shortcut": "projection"}, (3, 32, 32), 10, 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)),
        # Zagoruyko & Komodakis 2016, table 4: WRN-40-4 8.9 M, WRN-22-8 17.2 M, WRN-28-10 36.5 M.
        ("wide_resnet", {"depth": 40, "widen": 4}, (3, 32, 32), 10, 8_949_210),
        ("wide_resnet", {"depth": 22, "widen": 8}, (3, 32, 32), 10, 17_158_106),
        ("wide_resnet", {"depth": 28, "widen": 10}, (3, 32, 32), 10, 36_479_194),
        # DeiT-Ti: 5.7 M.
        ("vit_tiny", {"patch": 16}, (3, 224, 224), 1000, 5_717_416),
    ],
)
def test_published_sizes(
    name: str, fields: dict[str, Any], shape: tuple[int, int, int], classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        assert size(MODELS[name](**fields).build(shape, classes)) == parameters


def test_a_padding_shortcut_by_hand() -> None:
    """Every second pixel of every channel, and zeros for the channels that are new."""
    from core.models.residual import Pad

    images = torch.arange(2 * 4 * 3.0).reshape(1, 2, 4, 3)
    padded = Pad(2, 3)(images)
    assert padded.shape == (1, 5, 2, 2)
    assert padded[0, 1].tolist() == [[12, 14], [18, 20]]
    assert not padded[0, 2:].any()


@pytest.mark.parametrize("name", ["resnet20", "wide_resnet"])
def test_small_residual_networks_halve_the_map_twice_and_keep_their_variance(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS[name]().build((3, 32, 32), 10)
    maps: list[tuple[int, ...]] = []
    for module in network:
        module.register_forward_hook(lambda _, __, output: maps.append(tuple(output.shape)))
    logits = network(torch.randn(8, 3, 32, 32))
    assert {shape[2] for shape in maps if len(shape) == 4} == {32, 16, 8, 1}
    assert 0.01 < logits.std().item() < 10


def test_resnet_stems() -> None:
    small = MODELS["resnet18"]().build((3, 32, 32), 10)
    large = MODELS["resnet18"](stem="imagenet").build((3, 64, 64), 1000)
    assert (small.conv1.kernel_size, small.conv1.stride, type(small.maxpool)) == ((3, 3), (1, 1), nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride, type(large.maxpool)) == ((7, 7), (2, 2), nn.MaxPool2d)
    assert size(large) == 11_689_512


def test_small_cnn_layers() -> None:
    network = MODELS["small_cnn"](width=8).build((1, 10, 12), 5)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(1, 8), (8, 16), (16, 16)]
    assert all(c.bias is None for c in convolutions)
    assert linears(network)[0].in_features == 16 * 4 * 4


def test_mlp_widths_from_a_list() -> None:
    model: Any = TypeAdapter(ModelChoice).validate_python({"name": "mlp", "hidden": [5, 4]})
    assert model.hidden == (5, 4)
    assert [(m.in_features, m.out_features) for m in linears(model.build((1, 2, 3), 2))] == [(6, 5), (5, 4), (4, 2)]
    assert len(linears(MODELS["mlp"](hidden=()).build((1, 2, 3), 2))) == 1


@pytest.mark.parametrize(
    ("name", "fields", "shape", "message"),
    [
        ("small_cnn", {}, (1, 1, 8), "at least 2 x 2 pixels, not 1 x 8"),
        ("vit_small", {}, (3, 8, 12), "cannot take 8 x 12"),
        ("vit_small", {"patch": 5}, (3, 32, 32), "patches of 5 pixels and cannot take 32 x 32"),
        ("vit_small", {"dim": 64}, (3, 32, 32), "cannot split dim 64 among 3 heads"),
        ("vit_tiny", {}, (3, 8, 9), "vit_tiny .* cannot take 8 x 9"),
        ("wide_resnet", {"depth": 20}, (3, 32, 32), "depth 6 n \\+ 4 and cannot have 20"),
        ("torchvision", {}, (1, 32, 32), "mobilenet_v3_small takes RGB images, not 1 channel"),
        ("torchvision", {"architecture": "resnet17"}, (3, 32, 32), "'resnet17'; the nearest are .*resnet18"),
        ("torchvision", {"architecture": "fcn_resnet50"}, (3, 32, 32), "no classifier 'fcn_resnet50'"),
        ("torchvision", {"architecture": "squeezenet1_0"}, (3, 64, 64), "squeezenet1_0 has no linear classifier"),
    ],
)
def test_shapes_that_do_not_fit(name: str, fields: dict[str, Any], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[name](**fields).build(shape, 10)


def test_torchvisions_transformers_have_a_classifier_that_gradients_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision starts it at zero, where a score by gradients says nothing of any layer. A small one stands in."""

    def small(name: str, **options: Any) -> nn.Module:
        given = {name: value for name, value in options.items() if name in ("image_size", "num_classes")}
        return VisionTransformer(patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, **given)

    monkeypatch.setattr("torchvision.models.get_model", small)
    built = MODELS["torchvision"](architecture="vit_b_32").build((3, 16, 16), 3)
    assert bool(built.get_parameter("heads.head.weight").any())
