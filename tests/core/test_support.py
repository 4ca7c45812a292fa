"""Support, shock and class imbalance of a switch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from core import support
from core.config import CellConfig
from core.coresets import SELECTORS
from core.data import SOURCES
from core.data.bundle import Bundle, Split
from core.data.load import load_bundle
from core.events import EpochEnded, SupportMeasured
from core.measurements import Measurements
from core.models import MODELS
from core.network import Network, build
from core.pruning import PRUNERS
from core.state import dump
from core.support import class_imbalance, lost_support, worst
from core.trainer import Trainer
from tests.core.harness import Plain

CELL = CellConfig(
    data=SOURCES["synthetic"](),
    epochs=6,
    warmup_epochs=1,
    select_every=2,
    prune_rate=0.8,
    pruner=PRUNERS["rigl"](),
    coreset_ratio=0.2,
    selector=SELECTORS["el2n"](),
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(CELL.data)


def test_lost_support_by_hand() -> None:
    # Class 0: norms 3 and 1, the coreset (2 of 4 samples) has the second: 1 of a fair share of 0.5 * 4 = 2.
    # Class 1: norms 2 and 2, it has one: exactly its share. Class 2 has no gradient: nothing to compare with.
    norm_U = torch.tensor([3.0, 1.0, 2.0, 2.0])
    labels_U = torch.tensor([0, 0, 1, 1])
    coreset_U = torch.tensor([False, True, True, False])
    everything_U = torch.ones(4, dtype=torch.bool)
    lost = lost_support(norm_U, labels_U, coreset_U, everything_U, 2, 3)
    assert lost[:2] == (0.5, 0.0)
    assert math.isnan(lost[2])
    assert worst(lost) == 0.5
    assert math.isnan(worst((math.nan,)))


def test_more_than_the_fair_share_is_no_loss() -> None:
    norm_U, labels_U = torch.tensor([9.0, 1.0]), torch.tensor([0, 0])
    assert lost_support(norm_U, labels_U, torch.tensor([True, False]), torch.tensor([True, True]), 1, 1) == (0.0,)


def test_class_imbalance_by_hand() -> None:
    everything = torch.tensor([0, 0, 1, 1])
    assert class_imbalance(torch.tensor([0, 0]), everything, 2) == 0.5
    assert class_imbalance(torch.tensor([0, 1]), everything, 2) == 0.0


@pytest.mark.parametrize("model", ["small_cnn", "mlp", "resnet18"])
def test_sample_gradients_are_those_of_autograd(model: str, bundle: Bundle) -> None:
    cell = replace(CELL, model=MODELS[model]())
    module = build(cell, bundle, torch.device("cpu"))
    network = Network(module, bundle)
    images, labels = bundle.train.images[:4], bundle.train.labels[:4]
    found = network.sample_gradients(images, labels)

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(module, weights, (image[None],)), label[None])

    module.eval()
    weights = {name: weight.detach() for name, weight in network.weights.items()}
    oracle = vmap(grad(loss), in_dims=(None, 0, 0))(weights, network.inputs(images), labels)
    assert found.keys() == oracle.keys()
    for name, gradient in oracle.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_sample_gradients_of_grouped_strided_convolutions(groups: int, bundle: Bundle) -> None:
    conv = nn.Conv2d(bundle.image_shape[0] * 2, 4, 3, stride=2, padding=1, dilation=2, groups=groups)
    first = nn.Conv2d(bundle.image_shape[0], bundle.image_shape[0] * 2, 1)
    module = nn.Sequential(
        first, conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, bundle.num_classes)
    )
    network = Network(module, bundle)
    images, labels = bundle.train.images[:3], bundle.train.labels[:3]
    found = network.sample_gradients(images, labels)
    for k in range(3):
        alone = cross_entropy(module(network.inputs(images[k : k + 1])), labels[k : k + 1])
        for name, gradient in zip(
            network.weights, torch.autograd.grad(alone, list(network.weights.values())), strict=True
        ):
            torch.testing.assert_close(found[name][k], gradient, rtol=1e-4, atol=1e-6)


def measured(cell: CellConfig, bundle: Bundle, samples: int) -> list[SupportMeasured]:
    events = Trainer(cell, bundle, measurements=Measurements(samples)).events()
    return [event for event in events if isinstance(event, SupportMeasured)]


def test_every_switch_is_measured_and_training_does_not_notice(bundle: Bundle) -> None:
    quiet, watched = Trainer(CELL, bundle), Trainer(CELL, bundle, measurements=Measurements(64))
    before = [event for event in quiet.events() if isinstance(event, EpochEnded)]
    events = list(watched.events())
    after = [event for event in events if isinstance(event, EpochEnded)]
    assert dump(quiet.state()) == dump(watched.state())
    found = [event for event in events if isinstance(event, SupportMeasured)]
    assert [event.epoch for event in found] == [2, 4, 6]
    for event in found:
        assert 0 <= event.support.lost <= 1
        assert event.support.lost == max(event.support.lost_by_class)
        assert 0 <= event.support.lost_random <= 1
        assert event.support.shock > 0
    assert [e.cost.selection for e in before] == [e.cost.selection for e in after]
    assert [e.cost.dense for e in before] == [e.cost.dense for e in after]
    assert [b.cost.evaluation < a.cost.evaluation for b, a in zip(before, after, strict=True)] == [False, True] * 3


def test_without_removed_weights_there_is_no_support_to_lose(bundle: Bundle) -> None:
    dense = replace(CELL, prune_rate=0.0, pruner=PRUNERS["none"]())
    found = measured(dense, bundle, 64)
    assert found
    assert all(math.isnan(event.support.lost) and event.support.shock > 0 for event in found)


def test_the_whole_set_as_coreset_loses_nothing(bundle: Bundle) -> None:
    trainer = Trainer(CELL, bundle)
    list(trainer.events(until=1))
    whole = support.measure(
        trainer.network,
        bundle.train,
        trainer.index_M,
        trainer.masking.mask,
        None,
        num_classes=bundle.num_classes,
        samples=len(bundle.train),
        rng=torch.Generator(),
    )
    assert (whole.lost, whole.lost_random, whole.class_imbalance) == (0.0, 0.0, 0.0)
    assert whole.shock == pytest.approx(1, abs=1e-5)


def test_a_class_without_samples_loses_all(bundle: Bundle) -> None:
    trainer = Trainer(CELL, bundle)
    list(trainer.events(until=1))
    index_M = (bundle.train.labels != 0).nonzero().flatten()
    found = support.measure(
        trainer.network,
        bundle.train,
        index_M,
        trainer.masking.mask,
        None,
        num_classes=bundle.num_classes,
        samples=10_000,
        rng=torch.Generator(),
    )
    assert found.lost_by_class[0] == found.lost == 1.0
    assert all(lost == 0 for lost in found.lost_by_class[1:])


def test_a_coreset_is_compared_with_as_many_samples_at_random() -> None:
    """1 000 samples, 100 of them looked at, a coreset of 50: not with the 5 of those 100 that would be its share."""
    sides = support._sides(1000, torch.arange(50), 100, torch.Generator().manual_seed(0))
    assert (int(sides.full_U.sum()), int(sides.coreset_U.sum()), int(sides.random_U.sum())) == (100, 50, 50)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardswish])
def test_an_activation_in_place_leaves_the_gradients_of_the_layer_before_it(
    activation: type[nn.Module], bundle: Bundle
) -> None:
    size = bundle.image_shape[0] * bundle.image_shape[1] * bundle.image_shape[2]
    found = []
    for inplace in (False, True):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(size, 8), activation(inplace=inplace), nn.Linear(8, bundle.num_classes)]
        network = Network(nn.Sequential(*layers), bundle)
        found.append(network.sample_gradients(bundle.train.images[:3], bundle.train.labels[:3]))
    for name, gradient in found[0].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(found[1][name], gradient)


def test_support_is_of_removed_weights_and_shock_of_live_ones() -> None:
    """Weights 0, so p - y is -+.5 and a gradient is +-.5 x; column 0 is removed. Removed norms ~ 3 1 | 2 2.

    Live column, coreset {1, 2}: (-1.5 + 1) / 2 = -.25; all: (-.5 - 1.5 + 1 + .5) / 4 = -.125.
    """
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    nn.init.zeros_(module[1].weight)
    images = torch.tensor([[3.0, 1], [1, 3], [2, 2], [2, 1]]).view(4, 1, 1, 2)
    found = support.measure(
        Plain(module),
        Split(images, torch.tensor([0, 0, 1, 1])),
        torch.tensor([1, 2]),
        {"1.weight": torch.tensor([[False, True], [False, True]])},
        None,
        num_classes=2,
        samples=4,
        rng=torch.Generator(),
    )
    assert found.lost_by_class == pytest.approx((0.5, 0.0))
    assert found.shock == pytest.approx(2.0)
