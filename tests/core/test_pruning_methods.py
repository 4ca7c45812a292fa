"""One case per pruner, worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway
from torch import Tensor, nn
from torch.nn.utils import prune

from core.pruning import scores
from core.pruning.allocation import keep_top
from core.pruning.gmp import GMP
from core.pruning.grasp import GraSP, weighted_curvature
from core.pruning.lnpt import LNPT, _filled
from core.pruning.mask import kept
from core.pruning.none import NoPruning
from core.pruning.probmask import ProbMask
from core.pruning.pruner import Pruner, View
from core.pruning.random import Random
from core.pruning.rigl import RigL
from core.pruning.schedule import PerInterval
from core.pruning.scope import Group, prunable
from core.pruning.screening import Screening, _per_weight, f_statistic
from core.pruning.set import SET
from core.pruning.seven import SEVEN
from core.pruning.snip import SNIP
from core.pruning.synflow import SynFlow, _at
from core.rounding import count
from tests.core.harness import Run, answering, moment, network, one_group, view_of


def mask_of(bits: str) -> Tensor:
    return torch.tensor([bit == "1" for bit in bits])


def shown(mask: dict[str, Tensor] | None) -> str | None:
    return None if mask is None else "".join("01"[int(keep)] for keep in mask["w"])


def step(pruner: Pruner, view: View) -> str | None:
    return shown(pruner.step({}, view)[1])


def init(pruner: Pruner, view: View) -> str | None:
    return shown(pruner.init(view)[1])


def test_none_never_prunes() -> None:
    view = view_of(torch.ones(4), rate=0.5, now=moment(3))
    assert init(NoPruning(), view) is None
    assert step(NoPruning(), view) is None


def test_random_keeps_the_largest_draws() -> None:
    # torch.rand(6, seed 0, float64): .97 .71 .46 .92 .65 .79
    assert init(Random(), view_of(torch.zeros(6), rate=0.5, now=moment(0))) == "100101"


def test_snip_keeps_the_largest_products_of_weight_and_gradient() -> None:
    # L = sum c w, so the gradient is c: abs(w c) = 1, .5, 1.5, 2.
    coefficients = torch.tensor([1.0, 0.25, -0.5, 4.0])
    probe = answering(loss=lambda weights: (coefficients * weights["w"]).sum())
    view = view_of(torch.tensor([1.0, -2.0, 3.0, 0.5]), rate=0.5, now=moment(0), probe=probe)
    with torch.no_grad():
        assert init(SNIP(), view) == "0011"


def test_grasp_keeps_the_highest_products_of_weight_and_curved_gradient() -> None:
    # L = w' A w / 2 with a symmetric A.
    matrix = torch.tensor([[2.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
    weights = torch.tensor([1.0, 1.0, -1.0, 1.0])
    # g = A w = (3, 3, -2, -1), H g = A g = (9, 13, -4, -3), w (H g) = (9, 13, 4, -3).
    worth = weighted_curvature({"w": weights}, lambda w: w["w"] @ matrix @ w["w"] / 2)
    assert worth["w"].tolist() == [9, 13, 4, -3]
    # Through the method: one sample of class 0, logits (w . x) T and 0, so the loss is softplus(-w . x). With
    # s = sigmoid(-w . x), g = -s x and H = s (1 - s) x x', so w (H g) = -s^2 (1 - s) |x|^2 (w x): the lowest w x stay.
    x = torch.tensor([1.0, 2.0, -3.0, 0.5])
    probe = answering(
        logits=lambda w: torch.stack([(w["w"] * x).sum() * 200, torch.zeros(())])[None], labels=torch.tensor([0])
    )
    view = view_of(torch.tensor([0.3, -0.2, 0.1, 0.2]), rate=0.5, now=moment(0), probe=probe)
    # w x = .3, -.4, -.3, .1
    assert init(GraSP(), view) == "0110"


def test_synflow_prunes_in_rounds_so_that_no_layer_is_cut_through() -> None:
    # A chain y = v (a x1 + b x2) of ones: R = v (a + b), scores a v, b v, v (a + b) = 2, 1, 3.
    # Half of four: round 1 at density 1/sqrt(2) keeps 3 of the 4, round 2 keeps 2. d is out of the chain: score 0.
    weights = torch.tensor([2.0, -1.0, 1.0, 9.0])
    probe = answering(flow=lambda w: (w["w"][2] * (w["w"][0].abs() + w["w"][1].abs())).abs())
    view = view_of(weights, rate=0.5, now=moment(0), probe=probe)
    assert init(SynFlow(rounds=2), view) == "1010"


def test_synflow_conserves_its_scores_at_every_hidden_unit() -> None:
    # Tanaka et al., theorem 1: what flows into a layer flows out of it, so the sums of the scores of layers agree.
    model = network().double()
    bare = {name: weight.detach() for name, weight in prunable(model).items()}
    for name, parameter in model.named_parameters():
        parameter.data.mul_(name in bare)
    probe = Run(SynFlow(), one_group(model, 0.5), nn.Sequential(model[0], *model[2:])).probe()
    names = dict(zip(bare, ("0.weight", "3.weight", "4.weight"), strict=True))
    flow = scores.saliency({names[name]: weight for name, weight in bare.items()}, probe.flow)
    sums = torch.stack([score.sum() for score in flow.values()])
    torch.testing.assert_close(sums, sums[0].expand(3))
    # And unit by unit: what enters a hidden unit of the second-last layer is what leaves it.
    torch.testing.assert_close(flow["3.weight"].sum(1), flow["4.weight"].sum(0))


def test_seven_sums_scaled_sensitivities() -> None:
    # First step: m = |g|, v = g^2 once corrected, so m / sqrt(v) = 1 and abs(w g) = 2, 1, 3, 0 is added.
    # Second step, g halved: m = (.16 |g| + .1 |g|) / .36 = .26/.36 |g|, v = (.16 + .05) / .36 g^2 = .21/.36 g^2:
    # abs(w g) / 2 times (.26 / .36) / sqrt(.21 / .36) is added.
    weights, gradient = torch.tensor([1.0, -1.0, 3.0, 5.0]), torch.tensor([2.0, 1.0, -1.0, 0.0])
    pruner = SEVEN(start=0.5, update_every=1)
    first = view_of(weights, rate=0.5, now=moment(1, 0), gradient=gradient)
    second = view_of(weights, rate=0.5, now=moment(1, 1), gradient=gradient / 2)
    state = pruner.step(pruner.step(pruner.init(first)[0], first)[0], second)[0]
    scale = 1 + 0.5 * (0.26 / 0.36) / math.sqrt(0.21 / 0.36)
    torch.testing.assert_close(state["importance/w"], scale * torch.tensor([2.0, 1.0, 3.0, 0.0]))
    last = view_of(weights, rate=0.5, now=moment(8), gradient=torch.zeros(4))
    assert shown(pruner.step(state, last)[1]) == "1010"


def test_screening_mixes_the_ranks_of_f_and_magnitude() -> None:
    # Two classes of two samples. Input 1: 0 0 | 1 1, no spread within: F infinite. Input 2: 0 2 | 1 3: between
    # (1 + 1) / 4 * 2 = 1, within 4 / 2 = 2: F = 1/2. Input 3 is constant: F = 0.
    read = torch.tensor([[0.0, 0.0, 5.0], [0.0, 2.0, 5.0], [1.0, 1.0, 5.0], [1.0, 3.0, 5.0]])
    assert f_statistic(read, torch.tensor([0, 0, 1, 1])).tolist() == [math.inf, 0.5, 0]
    # Ranks of F per column 4 2 0 (of six), of abs(w) 0 2 3 | 4 1 5: mixed 4 4 3 | 8 3 5, halved; three stay.
    weights = torch.tensor([[0.1, -0.3, 0.4], [0.5, 0.2, -0.6]])
    probe = answering(inputs=lambda w: {"w": read}, labels=torch.tensor([0, 0, 1, 1]))
    pruner = Screening(update_every=1)
    view = view_of(weights, rate=0.5, now=moment(8), probe=probe)
    new = pruner.step({}, view)[1]
    assert new is not None
    assert new["w"].int().tolist() == [[1, 0, 0], [1, 0, 1]]


def test_screening_sees_each_group_of_a_grouped_convolution() -> None:
    # Four inputs in two groups: outputs 1 and 2 read inputs 1 and 2, outputs 3 and 4 the others.
    values = _per_weight(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4, 2, 1, 1))
    assert values.flatten(1).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_f_statistic_is_scipys(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), draw.integers(0, 3, 9)])
    values = draw.normal(size=(12, 2)) + labels[:, None]
    ours = f_statistic(torch.tensor(values), torch.tensor(labels))
    theirs = f_oneway(*(values[labels == c] for c in range(3)), axis=0).statistic
    torch.testing.assert_close(ours, torch.tensor(theirs))


def test_lnpt_keeps_what_moves_the_features_away_from_the_teachers() -> None:
    # Features w1 x, w2 x, w3 x, x = 1; teacher .9 of the first weights and .1 of the next. The gap is sum (w - t)^2,
    # its gradient 2 (w - t). From w = 1, 1, 1, 1 to 2, 1.5, 1, 9: t = 1.1, 1.05, 1, 1.8.
    # w 2 (w - t) = 3.6, 1.35, 0, 129.6.
    probe = answering(features=lambda w: w["w"][None])
    pruner = LNPT(teacher_decay=0.9, update_every=1)
    state, _ = pruner.init(view_of(torch.ones(4), rate=0.5, now=moment(0), probe=probe))
    view = view_of(torch.tensor([2.0, 1.5, 1.0, 9.0]), rate=0.5, now=moment(8), probe=probe)
    state, new = pruner.step(state, view)
    torch.testing.assert_close(state["teacher/w"], torch.tensor([1.1, 1.05, 1.0, 1.8]))
    assert shown(new) == "1001"
    worth = pruner.scores(state, view)["w"]
    torch.testing.assert_close(worth, torch.tensor([3.6, 1.35, 0.0, 129.6]))


def test_lnpt_ranks_a_layer_that_the_features_do_not_read_by_magnitude() -> None:
    # The classifier c has ranks 0, 2/3 and 1/3 of its own: it is worth the seen scores of places 0, 2 and 1 of four.
    told = {"w": torch.tensor([4.0, 1.0, 2.0, 3.0]), "c": torch.zeros(3)}
    weights = {"w": torch.ones(4), "c": torch.tensor([0.1, -0.9, 0.5])}
    filled = _filled(Group(("w", "c"), 0.5), told, weights)
    assert filled["w"].tolist() == [4, 1, 2, 3]
    assert filled["c"].tolist() == [1, 3, 2]


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_the_global_ranking_is_torchs(seed: int, rate: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    layers = {"a": torch.randn(4, 5, generator=draw), "b": torch.randn(7, generator=draw)}
    mask = keep_top([Group(("a", "b"), rate)], scores.magnitude(layers), "global")
    holder = nn.ParameterDict(layers)
    removed = 27 - count(Group(("a", "b"), rate).density, 27)
    prune.global_unstructured([(holder, "a"), (holder, "b")], prune.L1Unstructured, amount=removed)
    for layer, keep in mask.items():
        assert torch.equal(keep, getattr(holder, f"{layer}_mask").bool())


def test_gmp_follows_the_cubic() -> None:
    # Rate .5 between epochs 1 and 4 of 4: the shares of it are 0, 19/27, 26/27, 1.
    # Densities 1, .648, .519, .5: of four weights 4, 3 (2.59), 2 (2.07), 2.
    weights = torch.tensor([0.1, -0.5, 0.3, 0.2])
    pruner = GMP(start=0.0, update_every=1)

    def at(epoch: int, mask: str) -> str | None:
        return step(pruner, view_of(weights, rate=0.5, now=moment(epoch, 1, epochs=4), mask=mask_of(mask)))

    assert [at(1, "1111"), at(2, "1111"), at(3, "0111"), at(4, "0110")] == [None, "0111", "0110", None]


def test_gmp_starts_at_the_first_selection() -> None:
    pruner = GMP(update_every=1)
    # The harness selects first in epoch 2 of 8; the share of epoch 3 is 1 - (1 - (2/8 - 1/8) / (6/8 - 1/8))^3.
    assert [pruner.position(moment(epoch)) for epoch in (1, 2, 3, 7)] == pytest.approx([0, 0, 1 - 0.8**3, 1])
    assert GMP(start=0.5).position(moment(3)) == 0


def test_gmp_never_regrows_whatever_the_magnitude() -> None:
    weights = torch.tensor([9.0, 1.0, 2.0, 3.0])
    view = view_of(weights, rate=0.5, now=moment(8), mask=mask_of("0111"))
    assert step(GMP(), view) == "0011"


def test_rigl_exchanges_small_weights_for_large_gradients() -> None:
    # Half of the four kept are dropped: 2 and 1. Gradients among what is then out: 0 5 | 1 9 2 0:
    # 9 grows, and 5, whose weight was just dropped, grows again.
    weights = torch.tensor([4.0, -3.0, 2.0, -1.0, 0, 0, 0, 0])
    gradient = torch.tensor([7.0, 7.0, 0.0, -5.0, 1.0, 9.0, 2.0, 0.0])
    pruner = RigL(drop_fraction=0.5, update_every=1)
    view = view_of(weights, rate=0.5, now=moment(1, 1), mask=mask_of("11110000"), gradient=gradient)
    assert step(pruner, view) == "11010100"


def test_rigl_anneals_and_stops() -> None:
    # f = .3 (1 + cos(pi progress / .75)) / 2; of 20 kept weights 20 f change: 6 at progress 0, 3 at 3/8 (cos = 0).
    weights = torch.cat([torch.arange(1.0, 21.0), torch.zeros(20)])
    gradient = torch.cat([torch.zeros(20), torch.ones(20)])
    mask = mask_of("1" * 20 + "0" * 20)

    def dropped(epoch: int) -> int | None:
        view = view_of(weights, rate=0.5, now=moment(epoch, 1), mask=mask, gradient=gradient)
        new = RigL(update_every=1).step({}, view)[1]
        return None if new is None else int((mask & ~new["w"]).sum())

    # Epochs 1, 4 and 7 of 8: progress 0, 3/8, 3/4.
    assert [dropped(1), dropped(4), dropped(7)] == [6, 3, None]


def test_rigl_at_density_one_changes_nothing() -> None:
    view = view_of(torch.arange(6.0), rate=0.0, now=moment(1, 1), gradient=torch.ones(6))
    assert step(RigL(update_every=1), view) == "111111"
    assert step(SET(update_every=1), view) == "111111"


def test_set_grows_at_random() -> None:
    # Of four kept weights half are dropped: 2 and 1. Draws (seed 0): .97 .71 .46 .92 .65 .79; out are the last four,
    # .46 .92 .65 .79: the fourth (just dropped) and the sixth grow.
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, 0.0])
    view = view_of(weights, rate=1 / 3, now=moment(1, 1), mask=mask_of("111100"))
    assert step(SET(drop_fraction=0.5, update_every=1), view) == "110101"


def test_probmask_steps_projects_and_keeps_the_likeliest() -> None:
    # The first step of Adam moves every score of 1 by the learning rate: .994 1.006 .994 1.006.
    # The last epoch's budget is 2 of 4: a shift of .5 makes the sum 2: .494 .506 .494 .506. The two largest stay.
    pruner = ProbMask()
    view = view_of(torch.ones(4), rate=0.5, now=moment(1, epochs=1, steps=1))
    state, first = pruner.init(view)
    weights = pruner.forward_weights(state, view.weights, view.moment, torch.Generator())
    assert first is None
    assert weights["w"].tolist() == [1, 1, 1, 1]
    state["score/w"].grad = torch.tensor([2.0, -3.0, 0.1, -0.01])
    state, mask = pruner.step(state, view)
    assert state["score/w"].tolist() == pytest.approx([0.494, 0.506, 0.494, 0.506], abs=1e-6)
    assert shown(dict(mask or {})) == "0101"
    # Adam's averages after one step: a tenth of the gradient, a thousandth of its square.
    assert state["mean/w"].tolist() == pytest.approx([0.2, -0.3, 0.01, -0.001])
    assert state["square/w"].tolist() == pytest.approx([4e-3, 9e-3, 1e-5, 1e-7])


def test_probmask_at_even_odds_multiplies_by_the_draw() -> None:
    # logit(1/2) = 0, T = 1: sigmoid of the logistic noise is the uniform draw itself.
    weights = torch.tensor([1.0, 2.0, -4.0], requires_grad=True)
    state = {"score/w": torch.full((3,), 0.5)}
    masked = ProbMask().forward_weights(state, {"w": weights}, moment(1), torch.Generator().manual_seed(7))["w"]
    draws = torch.rand(3, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(masked, weights.detach() * draws)
    # dm/ds = T m (1 - m) / (s (1 - s)) = 4 m (1 - m); dL/dw = m.
    masked.sum().backward()
    torch.testing.assert_close(state["score/w"].grad, 4 * weights.detach() * draws * (1 - draws))
    torch.testing.assert_close(weights.grad, draws)


@pytest.mark.parametrize("progress_epoch", [1, 8])
def test_probmask_gradients_are_finite_at_the_bounds(progress_epoch: int) -> None:
    state = {"score/w": torch.tensor([0.0, 1.0, 1e-30, 1 - 6e-8])}
    weights = torch.ones(4, requires_grad=True)
    masked = ProbMask().forward_weights(state, {"w": weights}, moment(progress_epoch), torch.Generator())["w"]
    masked.sum().backward()
    assert state["score/w"].grad is not None
    assert bool(state["score/w"].grad.isfinite().all())


def test_probmask_at_a_draw_of_zero_has_a_gradient_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 16 million draws is 0: it cancelled a score of 1 and gave a slope of 1e20, which Adam never forgets."""
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.tensor([0.0, 2.0**-24]))
    state = {"score/w": torch.ones(2)}
    masked = ProbMask().forward_weights(state, {"w": torch.ones(2)}, moment(1), torch.Generator())["w"]
    masked.sum().backward()
    assert masked.tolist() == [1, 1]
    assert state["score/w"].grad is not None
    assert state["score/w"].grad.abs().max() < 1


def test_probmask_renews_its_mask_at_epoch_ends_only() -> None:
    pruner = ProbMask()
    view = view_of(torch.ones(4), rate=0.5, now=moment(8, 1))
    state, _ = pruner.init(view)
    assert pruner.step(state, view)[1] is None
    assert pruner.step(state, replace(view, moment=moment(8, 2)))[1] is not None


def test_updates_follow_the_interval() -> None:
    pruner = RigL(update_every=PerInterval(per_interval=2))
    view = view_of(torch.arange(4.0), rate=0.5, now=moment(2), mask=mask_of("0011"), gradient=torch.ones(4))
    # R = 2, 3 steps per epoch: two updates in epochs 2 and 3, after 3 and 6 steps.
    due = [(e, i) for e in (2, 3) for i in range(3) if step(pruner, replace(view, moment=moment(e, i))) is not None]
    assert due == [(2, 2), (3, 2)]


def test_a_grown_weight_that_is_still_zero_counts_as_kept() -> None:
    # Kept: 5 0 3 0; one of four is dropped. The zero of the lower index among the kept stays, not the pruned first one.
    weights = torch.tensor([0.0, 5.0, 0.0, 3.0, 0.0, 0.0])
    gradient = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    view = view_of(weights, rate=0.5, now=moment(1, 1), mask=mask_of("011110"), gradient=gradient)
    assert step(RigL(drop_fraction=0.25, update_every=1), view) == "011101"


def test_probmask_follows_adam_with_a_cosine() -> None:
    pruner, draw = ProbMask(), torch.Generator().manual_seed(0)
    view = view_of(torch.ones(5), rate=0.0, now=moment(1))
    state = {**pruner.init(view)[0], "score/w": torch.full((5,), 0.5)}
    theirs = torch.full((5,), 0.5, requires_grad=True)
    adam = torch.optim.Adam([theirs], lr=6e-3)
    for epoch in range(1, 5):
        for i in range(3):
            gradient = torch.randn(5, generator=draw)
            state["score/w"].grad, theirs.grad = gradient, gradient.clone()
            # Epochs of 8: 6e-3 (1 + cos(pi (epoch - 1) / 8)) / 2.
            adam.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * (epoch - 1) / 8))
            adam.step()
            state = dict(pruner.step(state, replace(view, moment=moment(epoch, i)))[0])
    torch.testing.assert_close(state["score/w"], theirs.detach())


def test_probmask_sharpens_with_time() -> None:
    # Epoch 5 of 8, progress 1/2: T = 1 / .515 multiplies the logit of the draw.
    masked = ProbMask().forward_weights(
        {"score/w": torch.full((3,), 0.5)}, {"w": torch.ones(3)}, moment(5), torch.Generator().manual_seed(7)
    )
    draws = torch.rand(3, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(masked["w"].detach(), (draws.logit() / 0.515).sigmoid())


def test_synflow_scores_the_masked_network_anew() -> None:
    # R = u (x1 + x2 + x3) + p q. In one shot u (3) and p (1.2) stay, and both paths are cut. In rounds of 5 3 3 2 the
    # x go first, u is then worth 0, and p and q stay.
    probe = answering(flow=lambda w: w["w"][0] * w["w"][1:4].sum() + w["w"][4] * w["w"][5])
    view = view_of(torch.tensor([1.0, 1, 1, 1, 1.2, 1]), rate=2 / 3, now=moment(0), probe=probe)
    assert init(SynFlow(rounds=4), view) == "000011"
    assert init(SynFlow(rounds=1), view) == "100010"
    assert _at(Group(("w",), 0.99), 0.5).density == pytest.approx(0.1)  # 0.01^(1/2)


def test_probmask_lets_its_budget_fall_along_the_cubic() -> None:
    # Shares of .9 at x = 0, 1/4, 1/2, 3/4, 1: 0, 37/64, 7/8, 63/64, 1; of 462 weights.
    model = network()
    run = Run(ProbMask(start=0.25, end=0.75), one_group(model, 0.9), model)
    sizes = [sum(kept(mask).values()) for now, mask in run if now.epoch]
    assert sizes == [462, 462, 462, 222, 98, 53, 46, 46]


def test_seven_averages_the_size_of_gradients_that_change_sign() -> None:
    pruner = SEVEN(start=0.5)
    state, _ = pruner.init(view_of(torch.ones(1), rate=0.5, now=moment(0)))
    for i, g in enumerate((2.0, -1.0)):
        state = pruner.observe(state, view_of(torch.ones(1), rate=0.5, now=moment(1, i), gradient=torch.tensor([g])))
    by_hand = 2 + (0.52 / 0.36) / math.sqrt(0.84 / 0.36)
    assert state["importance/w"].item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("share", "left"), [(1.0, [[1, 1, 0], [1, 0, 0]]), (0.0, [[0, 0, 1], [1, 0, 1]])])
def test_the_share_of_screening_is_that_of_f(share: float, left: list[list[int]]) -> None:
    read = torch.tensor([[0.0, 0.0, 5.0], [0.0, 2.0, 5.0], [1.0, 1.0, 5.0], [1.0, 3.0, 5.0]])
    probe = answering(inputs=lambda w: {"w": read}, labels=torch.tensor([0, 0, 1, 1]))
    view = view_of(torch.tensor([[0.1, -0.3, 0.4], [0.5, 0.2, -0.6]]), rate=0.5, now=moment(8), probe=probe)
    new = Screening(update_every=1, share=share).step({}, view)[1]
    assert new is not None
    assert new["w"].int().tolist() == left
