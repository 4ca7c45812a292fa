"""Every model: shapes, seeding, the classifier convention, published sizes."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from core.models import MODELS, ModelChoice

SHAPES = [(1, 8, 8), (3, 32, 32)]


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
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
        states.append(MODELS[name]().build((1, 8, 8), 3).state_dict())
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
    ],
)
def test_shapes_that_do_not_fit(name: str, fields: dict[str, int], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS[name](**fields).build(shape, 10)
