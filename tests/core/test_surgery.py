"""Networks that are cut smaller: what stays, what it computes, what it costs, and how a run goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.events import EpochEnded, MaskChanged, SupportMeasured
from core.flops import forward_flops, training_flops
from core.intervention import fork
from core.macs import measure
from core.measurements import Measurements
from core.models import MODELS
from core.projection import truncated
from core.pruning import PRUNERS
from core.pruning.channels import Channels
from core.pruning.couplings import Coupling, Structure, surgery_of
from core.pruning.cuts import Surgery
from core.pruning.lowrank import LowRank, ranks
from core.pruning.pruner import View
from core.pruning.rows import Rows
from core.pruning.scope import Group, prunable
from core.pruning.structured import Structured, nearest, removal_order
from core.state import dump, load
from core.surgery import after, operate, read, recorded
from core.trainer import Trainer
from tests.core.harness import Plain, answering, moment
from tests.core.test_flops import counted
from tests.core.test_trainer import JOINT, bundle, measured, trainer

CELLS = {
    "channels": replace(JOINT, pruner=PRUNERS["channels"](start=0.25, update_every=3), weight_decay=0.1),
    "rows": replace(JOINT, pruner=PRUNERS["rows"](start=0.25, update_every=3), model="mlp"),
    "lowrank": replace(JOINT, pruner=PRUNERS["lowrank"](start=0.25), model="mlp", lr=0.2),
}
every = pytest.mark.parametrize("name", CELLS)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in prunable(model).items()}


def two_convolutions() -> nn.Module:
    """One input channel, three, two, and a classifier that reads their four pixels each."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([5.0, 1.0, 4.0]).view(3, 1, 1, 1))
        model[3].weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]).view(2, 3, 1, 1))
        model[5].weight.fill_(1.0)
    return model


def decided(pruner: Structured | LowRank, model: nn.Module, groups: tuple[Group, ...]) -> Surgery:
    """What a pruner does to the model in the last epoch."""
    probe = answering(structure=lambda: Structure(model, torch.zeros(1, 1, 2, 2)))
    weights = weights_of(model)
    view = View(
        moment=moment(8),
        groups=groups,
        weights={name: weights[name] for group in groups for name in group.layers},
        gradients={},
        mask={},
        probe=probe,
        generator=torch.Generator,
    )
    change = pruner.step(pruner.init(view)[0], view)[1]
    assert change is None or isinstance(change, Surgery)
    return change or Surgery()


def all_of(model: nn.Module, rate: float) -> tuple[Group, ...]:
    return (Group(tuple(prunable(model)), rate),)


def places(surgery: Surgery) -> dict[tuple[str, int], list[int]]:
    return {place: index.tolist() for place, index in surgery.kept.items()}


@pytest.mark.parametrize("importance", ["l1", "group_norm"])
def test_the_channel_of_least_weight_leaves_with_all_that_holds_it(importance: str) -> None:
    # Weights: 3 + 6 + 16 = 25. A channel of the first layer takes 1 + 2, one of the second 3 + 8.
    # Rate .12 leaves 22: exactly the first layer's channel of weight 1, over its layer's mean 3/10 (l1); the second
    # layer's first is 3 / 15 = 1/5 of its mean by l1, and would go before: so the uniform allocation tells them apart.
    surgery = decided(
        Channels(importance=importance, allocation="uniform"), with_equal_seconds(), all_of(two_convolutions(), 0.12)
    )
    norm = {(f"1.{part}", 0): [0, 2] for part in ("weight", "bias", "running_mean", "running_var")}
    assert places(surgery) == {("0.weight", 0): [0, 2], ("0.bias", 0): [0, 2], **norm, ("3.weight", 1): [0, 2]}


def with_equal_seconds() -> nn.Module:
    model = two_convolutions()
    with torch.no_grad():
        model[3].weight.fill_(1.0)
    return model


def test_a_globally_small_channel_of_the_last_convolution_takes_its_pixels_along() -> None:
    # By l1 over the layer's mean: 5, 1, 4 over 10/3 = 1.5, .3, 1.2; 3 and 27 over 15 = .2, 1.8. The .2 goes first:
    # 3 weights of its own and 4 pixels x 2 classes leave 14 of 25; the rate .44 asks for exactly that.
    surgery = decided(Channels(importance="l1"), two_convolutions(), all_of(two_convolutions(), 0.44))
    assert places(surgery) == {("3.weight", 0): [1], ("3.bias", 0): [1], ("5.weight", 1): [4, 5, 6, 7]}


def test_fpgm_removes_the_most_replaceable_channel() -> None:
    # Filters 5, 1, 4: distances to the others 4 + 1 = 5, 4 + 3 = 7, 1 + 3 = 4. The third is the most replaceable.
    surgery = decided(
        Channels(importance="fpgm", allocation="uniform"), with_equal_seconds(), all_of(two_convolutions(), 0.12)
    )
    assert places(surgery)["0.weight", 0] == [0, 1]


BACKBONE = ("0.weight", "3.weight")


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        # Trim: the classifier's 2 x 8 weights at half, by the features alone: one channel of four pixels.
        ((Group(("5.weight",), 0.5),), {"0.weight": (3, 1), "3.weight": (1, 3), "5.weight": (2, 4)}),
        # The backbone alone: 3 + 6 weights, a channel of the first layer takes 3 of them; all features stay.
        ((Group(BACKBONE, 0.3),), {"0.weight": (2, 1), "3.weight": (2, 2), "5.weight": (2, 8)}),
        # Cut: one feature leaves with 3 of the backbone's 9 weights, as many as its rate of .3 asks for.
        (
            (Group(BACKBONE, 0.3), Group(("5.weight",), 0.5)),
            {"0.weight": (3, 1), "3.weight": (1, 3), "5.weight": (2, 4)},
        ),
        # At .6 four should be left of the 9: the feature leaves 6, and a channel of the first layer takes 1 + 1 more.
        (
            (Group(BACKBONE, 0.6), Group(("5.weight",), 0.5)),
            {"0.weight": (2, 1), "3.weight": (1, 2), "5.weight": (2, 4)},
        ),
        # A classifier at rate 0 keeps its features, whatever the backbone loses: 3 of 9 are left.
        (
            (Group(BACKBONE, 0.67), Group(("5.weight",), 0.0)),
            {"0.weight": (1, 1), "3.weight": (2, 1), "5.weight": (2, 8)},
        ),
    ],
)
def test_features_leave_by_the_rate_of_the_classifier(
    groups: tuple[Group, ...], left: dict[str, tuple[int, int]]
) -> None:
    model = two_convolutions()
    surgery = decided(Channels(importance="l1"), model, groups)
    operate(Plain(model), torch.optim.SGD(model.parameters(), lr=0.1), surgery)
    assert {name: tuple(weight.shape[:2]) for name, weight in prunable(model).items()} == left
    assert model(torch.zeros(1, 1, 2, 2)).shape == (1, 2)


@pytest.mark.parametrize(
    ("pruner", "groups", "said"),
    [
        # One channel of each: 1 + 1 + 8 of 25 weights. All features and one of the first layer: 1 + 2 of 9.
        (
            Channels(),
            (Group((*BACKBONE, "5.weight"), 0.7),),
            r"can remove 0\.6 of the weights of the 3 layers in scope",
        ),
        (Channels(), (Group(BACKBONE, 0.8),), r"can remove 0\.666 of the weights of the 2 layers in scope"),
        (Channels(), (Group(("5.weight",), 0.6),), r"can remove 0\.5 of the weights of 5\.weight, .* not 0\.6: lower"),
        (Rows(), (Group(BACKBONE, 0.1),), r"can remove 0 of the weights .* keeping one of a layer's hidden units"),
    ],
)
def test_a_rate_out_of_reach_is_refused(pruner: Structured, groups: tuple[Group, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decided(pruner, two_convolutions(), groups)


def test_a_coupling_is_cut_like_what_it_couples() -> None:
    # Three channels of two pixels each; the middle one leaves.
    one = Coupling({("a.weight", 0): torch.arange(3), ("b.weight", 1): torch.tensor([0, 0, 1, 1, 2, 2])})
    stays = torch.tensor([True, False, True])
    assert {place: index.tolist() for place, index in one.kept(stays).items()} == {
        ("a.weight", 0): [0, 2],
        ("b.weight", 1): [0, 1, 4, 5],
    }
    left = one.after(stays)
    assert left.channels == 2
    assert left.width(("b.weight", 1)) == 2
    assert left.owner["b.weight", 1].tolist() == [0, 0, 1, 1]


def test_a_unit_of_least_row_norm_leaves() -> None:
    # Rows (3, 4), (0, 1), (2, 2): norms 5, 1, 2.8. Of 6 + 6 weights a unit takes 2 + 2: rate 1/3 is one unit.
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 2.0]]))
        model[1].bias.fill_(100.0)
    found = Rows().choose(Structure(model, torch.zeros(1, 1, 1, 2)))
    assert [one.channels for one in found] == [3]
    worth = Rows().worth(found[0], dict(model.named_parameters()))
    assert worth.tolist() == pytest.approx([5.0, 1.0, 8**0.5])
    assert removal_order([worth], "global", [3]) == [(0, 1), (0, 2)]


def test_of_equal_channels_the_last_leaves_first_and_one_of_each_layer_stays() -> None:
    scores = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0]), torch.tensor([2.0, 4.0])]
    assert removal_order(scores, "global", [3, 1, 2]) == [(2, 0), (0, 2), (0, 1)]
    assert removal_order(scores, "uniform", [3, 1, 2]) == [(2, 0), (0, 2), (0, 1)]
    # Of nine channels six have left already, of four one: the four catch up first.
    cut = [torch.arange(3.0), torch.arange(3.0)]
    assert removal_order(cut, "uniform", [9, 4]) == [(1, 0), (1, 1), (0, 0), (0, 1)]
    # All zero: a mean of zero divides nothing.
    assert removal_order([torch.zeros(2)], "global", [2]) == [(0, 1)]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(-5, 80))
def test_the_number_of_removals_is_the_nearest(steps: list[int], target: int) -> None:
    left = [sum(steps) + 3 - sum(steps[:n]) for n in range(len(steps) + 1)]
    best = min(range(len(left)), key=lambda n: abs(left[n] - target))
    assert nearest(left.__getitem__, len(steps), target) == best


@pytest.mark.parametrize("model", MODELS)
def test_what_is_left_computes_what_the_whole_does_without_those_channels(model: str) -> None:
    """Torch-Pruning's graph is right when nobody reads what leaves: zero the columns, and nothing changes."""
    torch.manual_seed(0)
    shape = (3, 16, 16)
    built = MODELS[model]().build(shape, 4)
    macs = forward_flops(measure(built, shape))
    network = Plain(built.double().eval())
    images = torch.randn(3, *shape, dtype=torch.float64)
    for parameter in network.module.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    found = Structure(network.module, images[:1]).couplings
    assert found
    stays = tuple(torch.rand(one.channels).argsort() >= one.channels // 2 for one in found)
    tensors = dict(network.module.named_parameters()) | dict(network.module.named_buffers())
    for one, stays_C in zip(found, stays, strict=True):
        for (name, dim), owner in one.owner.items():
            if dim == 1:
                tensors[name].data[:, ~stays_C[owner]] = 0
    before = network.module(images)
    size = sum(w.numel() for w in network.weights.values())
    sgd = torch.optim.SGD(network.module.parameters(), lr=0.1)
    operate(network, sgd, surgery_of(found, stays))
    torch.testing.assert_close(network.module(images), before)
    assert sum(w.numel() for w in network.weights.values()) < size
    layers = measure(network.module.float(), shape)
    assert forward_flops(layers) == counted(network.module, shape, backward=False) < macs


def test_attention_and_the_classifiers_outputs_stay() -> None:
    module = MODELS["vit_small"](depth=1).build((1, 8, 8), 4)
    found = Structure(module, torch.zeros(1, 1, 8, 8)).couplings
    held = {place[0] for one in found for place in one.owner}
    assert held == {f"encoder.layers.encoder_layer_0.mlp.{part}" for part in ("0.weight", "0.bias", "3.weight")}


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_the_truncation_is_numpys_and_the_nearest(seed: int, rank: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(5, 4))
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    up, down = truncated(torch.tensor(matrix), rank)
    np.testing.assert_allclose((up @ down).numpy(), (u[:, :rank] * s[:rank]) @ vh[:rank], atol=1e-10)
    assert float((up @ down - torch.tensor(matrix)).norm()) == pytest.approx(np.sqrt((s[rank:] ** 2).sum()), abs=1e-9)


def test_a_known_matrix_at_rank_one() -> None:
    # diag(9, 4): singular values 9 and 4, shared in equal parts between the factors.
    up, down = truncated(torch.diag(torch.tensor([9.0, 4.0])), 1)
    assert (up @ down).tolist() == [[9, 0], [0, 0]]
    assert up.abs().flatten().tolist() == down.abs().flatten().tolist() == [3, 0]


def test_which_ranks_are_tried() -> None:
    # 12 x 20: full rank 12; 240 weights, factors of rank r hold 32 r, fewer up to r = 7.
    # Rates .5 .75 .9: 6, 3, 1.2; .1 leaves 10.8 and would hold more. The prune rate itself is tried: .6 leaves 4.8.
    assert ranks((12, 20), 0.9) == [6, 3, 1]
    assert ranks((12, 20), 0.6) == [6, 5]
    assert ranks((12, 20), 0.995) == [6, 3, 1]
    assert ranks((2, 2), 0.5) == []


@pytest.mark.parametrize(("losses", "chosen"), [([1.0, 0.5, 0.5], 6), ([1.0, 0.9, 0.8], 3), ([1.0, 1.0, 1.0], None)])
def test_the_rank_of_least_validation_loss_is_taken(losses: list[float], chosen: int | None) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 12))
    told = iter(losses)
    asked: list[int] = []

    def loss(weights: dict[str, Tensor]) -> float:
        asked.append(int(torch.linalg.matrix_rank(weights["1.weight"])))
        return next(told)

    probe = answering(structure=lambda: Structure(model, torch.zeros(1, 20)), validation_loss=loss)
    view = View(moment(8), (Group(("1.weight",), 0.75),), weights_of(model), {}, {}, probe, torch.Generator)
    state, change = LowRank().step(LowRank().init(view)[0], view)
    assert asked == [12, 6, 3]
    assert (change.ranks if isinstance(change, Surgery) else {}) == ({"1.weight": chosen} if chosen else {})
    assert LowRank().step(state, view)[1] is None


def test_momentum_and_gradients_go_along() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    network, sgd = Plain(model), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(5, 4)).sum().backward()
    sgd.step()
    first, second = model[0].weight, model[1].weight
    gradient, buffer = second.grad, sgd.state[second]["momentum_buffer"]
    sliced = sgd.state[first]["momentum_buffer"][[0, 2]]
    expected_up, expected_down = truncated(second[:, [0, 2]], 1)
    stays = torch.tensor([0, 2])
    operate(network, sgd, Surgery({("0.weight", 0): stays, ("0.bias", 0): stays, ("1.weight", 1): stays}))
    assert model[0].out_features == 2
    assert torch.equal(sgd.state[model[0].weight]["momentum_buffer"], sliced)
    operate(network, sgd, Surgery(ranks={"1.weight": 1}))
    down, up = model[1][0].weight, model[1][1].weight
    assert torch.equal(up, expected_up)
    torch.testing.assert_close(sgd.state[up]["momentum_buffer"], buffer[:, stays] @ expected_down.T)
    torch.testing.assert_close(down.grad, expected_up.T @ gradient[:, stays])
    assert sgd.param_groups[0]["params"] == list(model.parameters())
    assert set(sgd.state) == set(model.parameters())


@given(st.sets(st.integers(0, 9), min_size=3), st.data())
def test_two_cuts_are_one(first: set[int], data: st.DataObject) -> None:
    second = data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1))
    place, values = ("w", 0), torch.arange(10)
    one, two = (Surgery({place: torch.tensor(sorted(kept))}) for kept in (first, second))
    both = after(one, two)
    assert torch.equal(values[both.kept[place]], values[one.kept[place]][two.kept[place]])
    again = read(recorded(both))
    assert places(again) == places(both)


@every
def test_a_run_goes_on_from_any_epoch_bit_for_bit(name: str) -> None:
    whole = trainer(CELLS[name])
    events, states = [], {}
    for epoch in range(1, 9):
        events += whole.events(until=epoch)
        states[epoch] = dump(whole.state())
    assert not whole.network.surgery.empty
    for epoch in range(1, 9):
        resumed = trainer(CELLS[name])
        resumed.restore(load(states[epoch]))
        assert dump(resumed.state()) == states[epoch]
        assert measured(resumed.events()) == measured(e for e in events if e.epoch > epoch)
        assert dump(resumed.state()) == states[8]
    # The trainer that ended is as good as a new one, for an early state and a late one.
    for epoch in (1, 8):
        whole.restore(load(states[epoch]))
        assert dump(whole.state()) == states[epoch]


@every
def test_density_is_counted_of_the_whole_and_layers_say_what_left(name: str) -> None:
    run = trainer(CELLS[name])
    total = sum(weight.numel() for weight in run.network.weights.values())
    removed = 0
    for event in run.events():
        if isinstance(event, MaskChanged):
            removed += event.removed
            assert event.removed == sum(layer.removed for layer in event.layers.values()) > 0
            assert event.grown == 0
        if isinstance(event, EpochEnded):
            left = sum(weight.numel() for weight in run.network.weights.values())
            assert event.density == pytest.approx(left / total)
            assert left == total - removed
    assert removed
    if name != "lowrank":
        assert event.density == pytest.approx(0.2, abs=0.03)


@every
def test_the_cost_is_that_of_what_is_left(name: str) -> None:
    cell = replace(CELLS[name], coreset_ratio=1.0, selector="none", preservation="none")
    run = trainer(cell)
    first, *_, last = [event for event in run.events() if isinstance(event, EpochEnded)]
    assert last.full_cost == first.full_cost == first.cost.dense
    layers = measure(run.network.module, run.bundle.image_shape)
    shape = run.bundle.image_shape
    assert training_flops(layers, 1).dense == counted(run.network.module.float(), shape, backward=True)
    assert last.cost.dense == last.cost.sparse == training_flops(layers, last.trained).dense < first.cost.dense


@every
def test_an_arm_that_keeps_its_weights_keeps_its_network(name: str) -> None:
    cell = CELLS[name]
    run = trainer(cell)
    list(run.events(until=3))
    arms = {}
    for arm in ("samples", "both"):
        forked = Trainer(cell, bundle(replace(cell, seed=0)), intervention=fork(cell, 4).arm(arm, 1))
        forked.restore(load(dump(run.state())))
        arms[arm] = [type(e) for e in forked.events(until=7)]
        if arm == "samples":
            assert forked.masking.density == run.masking.density
    assert MaskChanged not in arms["samples"]
    assert name == "lowrank" or MaskChanged in arms["both"]


@every
def test_support_is_measured_of_what_is_left(name: str) -> None:
    cell = CELLS[name]
    run = Trainer(cell, bundle(replace(cell, seed=0)), measurements=Measurements(20))
    found = [event.support for event in run.events() if isinstance(event, SupportMeasured)]
    assert found[0].shock > 0


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    model = MODELS["mlp"](hidden=(8,)).build((1, 2, 2), 2)
    with pytest.raises(ValueError, match=r"pruner.layer 9 is no linear layer in scope: set one of 1, 3"):
        decided(LowRank(layer="9"), model, (Group(tuple(prunable(model)), 0.5),))


def test_a_network_without_linear_layers_in_scope_is_refused() -> None:
    model = two_convolutions()
    with pytest.raises(ValueError, match="pruner lowrank finds no linear layer in scope"):
        decided(LowRank(), model, (Group(("0.weight", "3.weight"), 0.5),))


def test_group_norm_counts_what_makes_and_what_reads_a_channel() -> None:
    # Own 5 1 4; each is read by 0 0, 4 4, 3 3: roots of 25, 1 + 32, 16 + 18. By l1 the second would be the least.
    model = two_convolutions()
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor([[0.0, 4, 3], [0, 4, 3]]).view(2, 3, 1, 1))
    structure = Structure(model, torch.zeros(1, 1, 2, 2))
    (first,) = (one for one in structure.couplings if ("0.weight", 0) in one.owner)
    assert Channels().worth(first, structure.weights).tolist() == pytest.approx([5.0, 33**0.5, 34**0.5])
