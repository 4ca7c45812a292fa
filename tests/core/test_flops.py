"""MACs against torch's own counter and against hand-counted layers; ledgers against the published check values."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from core.flops import (
    LayerMacs,
    Ledger,
    calibration_flops,
    forward_flops,
    paper_relative,
    relative,
    scoring_flops,
    training_flops,
)
from core.macs import measure
from core.models import MODELS
from core.pruning.scope import classifier, prunable
from sweeps.costs import network

LAYERS = (LayerMacs("a", 10, first=True), LayerMacs(None, 3), LayerMacs("b", 100))


def counted(network: nn.Module, shape: tuple[int, int, int], *, backward: bool) -> int:
    """What torch counts for one image; unfused attention, since it does not know the fused kernels of the CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits = network(torch.rand(1 if not backward else 2, *shape))
        if backward:
            logits.sum().backward()
    return counter.get_total_flops() // (2 if backward else 1)


OWN = [name for name in MODELS if name != "torchvision"]
ARCHITECTURES = {
    "mobilenet_v3_small": 32,
    "shufflenet_v2_x0_5": 32,
    "regnet_y_400mf": 32,
    "resnext50_32x4d": 32,
    "densenet121": 32,
    "googlenet": 32,
    "vit_b_32": 64,
    "swin_t": 64,
}
"""One of every way in which torchvision builds a classifier, and the side of an image that it takes."""


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_agrees_with_torchs_counter(name: str, shape: tuple[int, int, int]) -> None:
    network = MODELS[name]().build(shape, 10)
    layers = measure(network, shape)
    assert forward_flops(layers) == counted(network.eval(), shape, backward=False)
    assert training_flops(layers, 1).dense == counted(network.train(), shape, backward=True)


@pytest.mark.parametrize(("architecture", "side"), ARCHITECTURES.items())
def test_torchvisions_classifiers(architecture: str, side: int) -> None:
    """Forward alone: torch's own count of a grouped convolution's backward pass is wrong.

    Every weight is used, the classifier last, wherever the layer is applied (Swin applies them without calling them).
    """
    net = network(MODELS["torchvision"](architecture=architecture), (3, side, side), 7)
    built = MODELS["torchvision"](architecture=architecture).build((3, side, side), 7)
    assert net is not None
    assert forward_flops(net.layers) == counted(built.eval(), (3, side, side), backward=False)
    assert {layer.name for layer in net.layers} - {None} == set(prunable(built))
    assert net.layers[-1].name == classifier(built) == net.structure.classifier


def test_depthwise_backward_is_two_forward_passes_not_torchs_count() -> None:
    """A depthwise 3x3 convolution of 32 channels on 8 x 8 pixels has 8 * 8 * 32 * 9 MACs in each of three products."""
    depthwise = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32))
    first, second = measure(depthwise, (3, 8, 8))
    assert second.macs == 8 * 8 * 32 * 9
    assert training_flops([second], 1).dense == 2 * 3 * second.macs
    ours = training_flops([first, second], 1).dense
    assert counted(depthwise, (3, 8, 8), backward=True) > 5 * ours


def test_resnet18_check_values() -> None:
    layers = measure(MODELS["resnet18"]().build((3, 32, 32), 10), (3, 32, 32))
    assert sum(layer.macs for layer in layers) == 555_422_720
    per_image = training_flops(layers, 1).dense
    assert per_image == pytest.approx(3.329e9, abs=0.5e6)
    assert per_image * 50_000 * 200 == pytest.approx(33.3e15, abs=0.05e15)
    assert training_flops(layers, 5_000).dense == pytest.approx(0.1 * training_flops(layers, 50_000).dense)


@pytest.mark.parametrize("name", OWN)
def test_names_are_weights_of_the_model(name: str) -> None:
    network = MODELS[name]().build((1, 8, 8), 4)
    layers, weights = measure(network, (1, 8, 8)), dict(network.named_parameters())
    named = [layer.name for layer in layers if layer.name is not None]
    embeddings = {"class_token", "encoder.pos_embedding"}
    assert set(named) == {key for key, value in weights.items() if value.ndim > 1} - embeddings
    assert len(named) == len(set(named))
    assert [layer.first for layer in layers] == [True] + [False] * (len(layers) - 1)


def test_measuring_leaves_the_model_and_the_generator_as_they_were() -> None:
    network = nn.Sequential(MODELS["small_cnn"]().build((1, 8, 8), 4), nn.Dropout(0.5))
    network[0].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()
    measure(network, (1, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_convolutions_counted_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 4, 5),
    )
    macs = [layer.macs for layer in measure(network, (4, 8, 8))]
    assert macs == [16 * 8 * 4 * 9, 4 * 8 * 9, 4 * 6 * 4, 24 * 5]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_attention_counted_by_hand(batch_first: bool, training: bool) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = images[:, 0] if batch_first else images[:, 0].transpose(0, 1)
            output: torch.Tensor = self.attention(tokens, key=tokens[:1], value=tokens[:1], need_weights=False)[0]
            return output

    keys = 5 if batch_first else 1
    found = {layer.name: layer.macs for layer in measure(Attention().train(training), (1, 5, 6))}
    assert found == {
        "attention.in_proj_weight": (5 + 2 * keys) * 36,
        None: 2 * 5 * keys * 6,
        "attention.out_proj.weight": 5 * 36,
    }


def test_transposed_and_applied_layers_counted_by_hand() -> None:
    """2 x 2 pixels each spread over 3 x 3 in 5 channels; then a layer whose weight its parent applies, cut in two."""

    class Applied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pixels = images.flatten(2).mT
            upper, lower = self.layer.weight.chunk(2)
            return pixels @ upper.T + nn.functional.linear(pixels, lower)

    network = nn.Sequential(nn.ConvTranspose2d(4, 5, 3), Applied())
    found = [(layer.name, layer.macs) for layer in measure(network, (4, 2, 2))]
    assert found == [("0.weight", 4 * 4 * 5 * 9), ("1.layer.weight", 16 * 5 * 6)]


def test_a_layer_that_cannot_be_counted_is_refused() -> None:
    class Two(nn.Bilinear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(images[:, 0], images[:, 0])

    with pytest.raises(ValueError, match=r"operations of 0 \(Two\)"):
        measure(nn.Sequential(Two(4, 4, 2)), (1, 4, 4))


def test_images_that_do_not_fit_are_refused_and_the_model_is_left_in_training() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2, 2)).train()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ValueError, match=r"cannot take images of 1 x 4 x 4 \(.*\): set data\.image_size"):
        measure(network, (1, 4, 4))
    assert network.training
    assert torch.backends.mha.get_fastpath_enabled() == fast_path


def test_training_terms_by_hand() -> None:
    ledger = training_flops(LAYERS, 7, {"a": 0.5, "b": 0.1}, dense_gradient_samples=2)
    sparse = 2 * (10 * 0.5 + 3 + 100 * 0.1)
    assert ledger.dense == 7 * 2 * (113 + 103 + 113)
    assert ledger.forward == 7 * sparse
    assert ledger.grad_input == 7 * 2 * (3 + 10)
    assert ledger.grad_weight == 5 * sparse + 2 * 2 * 113
    assert ledger.sparse == ledger.forward + ledger.grad_input + ledger.grad_weight


@given(density=st.floats(0, 1), samples=st.integers(0, 100), share=st.floats(0, 1))
def test_sparse_lies_between_density_times_dense_and_dense(density: float, samples: int, share: float) -> None:
    layers, dense_samples = (LAYERS[0], LAYERS[2]), int(share * samples)
    ledger = training_flops(layers, samples, {"a": density, "b": density}, dense_samples)
    assert density * ledger.dense * (1 - 1e-9) <= ledger.sparse <= ledger.dense * (1 + 1e-9)
    assert training_flops(layers, samples).sparse == pytest.approx(ledger.dense)


@pytest.mark.parametrize("dense_gradient_samples", [-1, 8])
def test_more_dense_gradients_than_samples_are_refused(dense_gradient_samples: int) -> None:
    with pytest.raises(ValueError, match="give a number from 0 to 7"):
        training_flops(LAYERS, 7, None, dense_gradient_samples)


def test_ledgers_add_up_and_relate() -> None:
    training, scoring = training_flops(LAYERS, 10, {"b": 0.1}), scoring_flops(LAYERS, 10, {"b": 0.1})
    assert (scoring.dense, scoring.selection, scoring.sparse) == (10 * 2 * 113, 10 * 2 * 23, 0)
    total = sum([training, scoring, Ledger(evaluation=5.0, seconds=2.0)], Ledger())
    assert (total.dense, total.evaluation, total.seconds) == (training.dense + scoring.dense, 5.0, 2.0)
    dense_full = training_flops(LAYERS, 100).dense
    assert relative(total, dense_full) == (training.sparse + scoring.selection) / dense_full
    assert relative(training_flops(LAYERS, 100), dense_full) == 1.0


def test_the_papers_convention() -> None:
    assert paper_relative(0.1, 0.9) == pytest.approx(0.01)
    assert paper_relative(1.0, 0.0) == 1.0


def test_passes_that_a_pruner_asks_for_by_hand() -> None:
    ledger = calibration_flops(LAYERS, 7, 3)  # backward: 103 input-gradient and 113 weight-gradient MACs
    assert ledger == Ledger(dense=7 * 226 + 3 * (206 + 226), selection=7 * 226 + 3 * (206 + 226))
