"""Selectors that follow training: worked by hand, and their properties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from core.coresets.emp import EMP
from core.coresets.gradients import Gradients
from core.coresets.infobatch import InfoBatch
from core.coresets.pbcs import PBCS, Regression, direction
from core.coresets.samples import Coreset, Samples, Selector
from core.coresets.ted import TED, effect
from tests.core.harness import each, samples

NAN = math.nan


def chosen(selector: Selector, given: Samples, size: int, progress: float = 0.5, seed: int = 0) -> Coreset:
    return selector.select(given, size=size, progress=progress, rng=torch.Generator().manual_seed(seed))


def noted(loss_N: list[float], entropy_N: list[float] | None = None) -> Samples:
    labels_N = torch.zeros(len(loss_N), dtype=torch.int64)
    entropies = None if entropy_N is None else torch.tensor(entropy_N)
    return Samples(labels_N, 2, loss_N=torch.tensor(loss_N), entropy_N=entropies)


# --- infobatch -------------------------------------------------------------------------------------------------------


def test_infobatch_by_hand() -> None:
    # Mean of the known losses (1 + 2 + 3 + 4 + 5 + 9) / 6 = 4: below it are 1 2 3 (4 is not), n = 3.
    # alpha = 4/7, so r = 3/7: int(4/7 * 3) = 1 of them stays, with weight 1 / (1 - r) = 7/4; the others with weight 1.
    # Which one: the largest draw among the samples 0 2 4; torch.rand(7, seed 0) is .97 .71 .46 .92 .65 .79 .18.
    # Weights 7/4 and four times 1 have the mean 23/20: over it they are 35/23 and 20/23.
    draws = torch.rand(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert [round(x, 2) for x in draws.tolist()] == [0.97, 0.71, 0.46, 0.92, 0.65, 0.79, 0.18]
    coreset = chosen(InfoBatch(), noted([1, 4, 2, 5, 3, NAN, 9]), 4)
    assert coreset.index_M.tolist() == [0, 1, 3, 5, 6]
    assert coreset.weight_M is not None
    assert coreset.weight_M.tolist() == pytest.approx([35 / 23, *[20 / 23] * 4])


def test_infobatch_keeps_all_without_weights_before_the_first_pass_and_past_its_end() -> None:
    assert chosen(InfoBatch(), noted([NAN] * 3), 1).index_M.tolist() == [0, 1, 2]
    everything = chosen(InfoBatch(), samples(), 60)
    assert everything.index_M.tolist() == list(range(60))
    assert everything.weight_M is None
    assert [InfoBatch().share(0.1, progress) for progress in (0.01, 0.875, 0.876, 1.0)] == [0.1, 0.1, 1.0, 1.0]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 9))
def test_infobatch_keeps_the_written_number(losses: list[float], size: int, seed: int) -> None:
    size = min(size, len(losses))
    given = noted(losses)
    assert given.loss_N is not None
    below = given.loss_N.double() < given.loss_N.double().mean()
    coreset = chosen(InfoBatch(), given, size, seed=seed)
    n = int(below.sum())
    assert len(coreset.index_M) == len(losses) - n + n * size // len(losses)
    assert set((~below).nonzero().flatten().tolist()) <= set(coreset.index_M.tolist())


def test_infobatch_is_right_on_average() -> None:
    """The weighted mean of any number over a coreset is on average its mean over all: here with n alpha whole."""
    given = noted([0.1] * 40 + [3.0] * 20)
    value_N = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    means = []
    for seed in range(400):
        coreset = chosen(InfoBatch(), given, 15, seed=seed)
        assert coreset.weight_M is not None
        means.append(float((coreset.weight_M * value_N[coreset.index_M]).mean()))
    mean, spread = torch.tensor(means).mean().item(), torch.tensor(means).std().item()
    assert abs(mean - value_N.mean().item()) < 4 * spread / math.sqrt(400)


# --- emp -------------------------------------------------------------------------------------------------------------


def test_emp_by_hand() -> None:
    # Loss + beta * entropy: at beta 0 the order of the losses, 3 2 1 0; at beta 1 the sums 1.2 1.0 1.1 1.0;
    # at beta 2 2.2 1.5 1.4 1.1. Sample 4 was never trained on: the first.
    given = noted([0.2, 0.5, 0.8, 0.9, NAN], [1.0, 0.5, 0.3, 0.1, NAN])
    assert chosen(EMP(memory=0.0), given, 3).index_M.tolist() == [2, 3, 4]
    assert chosen(EMP(), given, 3).index_M.tolist() == [0, 2, 4]
    assert chosen(EMP(memory=2.0), given, 3).index_M.tolist() == [0, 1, 4]


def test_emp_breaks_the_ties_of_the_first_epoch_at_random_not_by_position() -> None:
    assert max(chosen(EMP(), noted([NAN] * 200, [NAN] * 200), 50).index_M.tolist()) > 150


# --- ted -------------------------------------------------------------------------------------------------------------


def line(error_N: list[float], kept_N: list[bool]) -> Samples:
    """One class present out of two, features 0: gradients (p - 1, 1 - p) for the biases alone, so numbers on a line."""
    p_N = 1 - torch.tensor(error_N, dtype=torch.float64)
    logits_NC = torch.stack([p_N, 1 - p_N], 1).log()
    zeros = torch.zeros(len(error_N), dtype=torch.int64)
    return Samples(zeros, 2, logits_NC, zeros[:, None].double(), kept_N=torch.tensor(kept_N))


def test_ted_by_hand() -> None:
    # Gradients e_i (-1, 1), <g_i, g_j> = 2 e_i e_j. Kept .1 + .2 = .3, left .4 + .6 = 1: the effect is 2 e_i (1 - .3).
    given = line([0.1, 0.2, 0.4, 0.6], [True, True, False, False])
    found = effect(Gradients.of(given), torch.tensor([True, True, False, False]))
    assert found.tolist() == pytest.approx([0.14, 0.28, 0.56, 0.84])
    assert chosen(TED(), given, 2).index_M.tolist() == [2, 3]


def test_ted_counts_the_size_of_an_effect_not_its_sign() -> None:
    # Labels 0 0 1, all kept: gradients .1 .2 -.5 times (-1, 1), kept -.2, effects 2 (.1 .2 -.5) (0 - -.2).
    given = line([0.1, 0.2, 0.5], [True] * 3)
    given = replace(given, labels_N=torch.tensor([0, 0, 1]))
    assert chosen(TED(), given, 1).index_M.tolist() == [2]


def test_ted_is_the_derivative_of_internal_generalisation() -> None:
    given = each(samples(), lambda value: value.double() if value.is_floating_point() else value)
    assert given.logits_NC is not None
    assert given.features_ND is not None
    assert given.kept_N is not None
    mask_N = given.kept_N.double().requires_grad_()
    error_NC = given.logits_NC.softmax(1) - torch.nn.functional.one_hot(given.labels_N, 4)
    features_ND = torch.nn.functional.pad(given.features_ND, (0, 1), value=1.0)
    gradients_NCD = error_NC[:, :, None] * features_ND[:, None]
    kept = torch.einsum("n,ncd->cd", mask_N, gradients_NCD)
    left = torch.einsum("n,ncd->cd", 1 - mask_N, gradients_NCD)
    (by_mask_N,) = torch.autograd.grad((kept * left).sum(), mask_N)
    torch.testing.assert_close(effect(Gradients.of(given), given.kept_N), by_mask_N)


def test_ted_prunes_progressively() -> None:
    # 1 - .9 (1 - (1 - x)^3) at x = 0, a half and one.
    shares = [TED(until=0.5).share(0.1, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert shares == pytest.approx([1.0, 1 - 0.9 * 0.875, 0.1, 0.1])
    assert shares[-1] == 0.1


# --- pbcs ------------------------------------------------------------------------------------------------------------


def test_the_direction_by_hand() -> None:
    # Losses 1 and 3: mean 2, deviation 1: the draws count -1 and +1, halved. Sample 0 was in the better draw alone,
    # sample 1 in both, sample 2 in neither: -(1 - .5) + (0 - .5), then 0, then 0, halved.
    likely_N = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    drawn_KN = torch.tensor([[1, 1, 0], [0, 1, 0]], dtype=torch.float64)
    assert direction(likely_N, drawn_KN, torch.tensor([1.0, 3.0]).double()).tolist() == pytest.approx([-0.5, 0, 0])
    assert not direction(likely_N, drawn_KN, torch.tensor([2.0, 2.0]).double()).any()
    assert not direction(likely_N, drawn_KN, torch.tensor([2.0, NAN]).double()).any()


def of_line(features_N: list[float], labels_N: list[int]) -> Samples:
    return Samples(torch.tensor(labels_N), 2, features_ND=torch.tensor(features_N)[:, None])


def test_pbcs_by_hand_in_one_round_of_two_draws() -> None:
    # Two samples of two, one wanted: s = .5 each. Draws (seed 0): .97 .71 | .46 .92, so nothing and sample 0 alone.
    # Nothing predicts 0, its loss is 1. Sample 0 is all of class 0 at feature 0, sample 1 at feature 2, so that the
    # regression on sample 0 predicts about (1, 0) for both: losses about 0 and 2, mean 1. In truth the ridge of
    # .01 * 1 * mean square ((0 + 4 + 1 + 1) / 2 / 2 = 1.5) leaves 1 / (1 + .015) = w for the bias and 0 for the slope:
    # ((1 - w)^2 + w^2 + 1) / 2 = .9854: less than 1, so that draw is the better one: a = (1, -1).
    # s moves against ((0 - .5) - (1 - .5), (0 - .5) - (0 - .5)) / 2 = (-.5, 0): (1, .5), projected: (.75, .25).
    given = of_line([0.0, 2.0], [0, 1])
    inner = Regression.of(torch.tensor([[0.0], [2.0]]), given, ridge=0.01)
    w = 1 / 1.015
    assert float(inner.loss(torch.tensor([True, False]))) == pytest.approx(((1 - w) ** 2 + w**2 + 1) / 2)
    assert float(inner.loss(torch.tensor([False, False]))) == 1
    coreset = chosen(PBCS(draws=2, rounds=1), given, 1)
    assert coreset.state["likely"].tolist() == pytest.approx([0.75, 0.25])
    assert coreset.index_M.tolist() == [0]


def test_pbcs_goes_on_from_its_state_and_keeps_to_the_budget() -> None:
    given = samples()
    first = chosen(PBCS(), given, 12)
    second = chosen(PBCS(), replace(given, state=first.state), 12, seed=1)
    again = chosen(PBCS(), given, 12, seed=1)
    assert second.state["likely"].tolist() != again.state["likely"].tolist()
    for coreset in (first, second):
        likely_N = coreset.state["likely"]
        assert float(likely_N.sum()) == pytest.approx(12, abs=1e-3)
        assert 0 <= float(likely_N.min()) <= float(likely_N.max()) <= 1


def test_pbcs_of_all_samples_is_certain_of_all() -> None:
    assert chosen(PBCS(rounds=1), samples(), 60).state["likely"].tolist() == [1.0] * 60


@pytest.mark.parametrize("size", [8, 20])
def test_pbcs_learns_what_a_last_layer_needs(size: int) -> None:
    """Its coresets give a lower loss on all samples than random ones do, by far more than chance."""
    given = learnable(size=200)
    assert given.features_ND is not None
    inner = Regression.of(given.features_ND, given, 0.01 * size)

    def loss(index_M: Tensor) -> float:
        return float(inner.loss(torch.zeros(200, dtype=torch.bool).index_fill(0, index_M, value=True)))

    draws = [torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:size] for seed in range(50)]
    at_random = torch.tensor([loss(draw) for draw in draws])
    learnt = torch.tensor([loss(chosen(PBCS(), given, size, seed=seed).index_M) for seed in range(5)])
    assert learnt.mean() < at_random.mean() - at_random.std()


def learnable(size: int) -> Samples:
    """Three Gaussian classes in five dimensions, a fifth of the labels wrong."""
    draw = torch.Generator().manual_seed(0)
    true_N = torch.randint(3, (size,), generator=draw)
    features_ND = torch.randn(size, 5, generator=draw) + 2 * torch.eye(3, 5)[true_N]
    wrong_N = torch.rand(size, generator=draw) < 0.2
    return Samples(torch.where(wrong_N, (true_N + 1) % 3, true_N), 3, features_ND=features_ND)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=60, max_size=60), st.floats(0.01, 10))
def test_the_inner_problem_is_scikit_learns_ridge_regression(kept: list[bool], ridge: float) -> None:
    given, kept_N = samples(), torch.tensor(kept)
    assert given.features_ND is not None
    inner = Regression.of(given.features_ND, given, ridge)
    expected = 1.0
    if any(kept):
        design, targets = inner.features_ND.numpy(), inner.labels_NC.numpy()
        model = Ridge(alpha=inner.ridge, fit_intercept=False).fit(design[kept], targets[kept])
        expected = float(((model.predict(design) - targets) ** 2).sum(1).mean())
    assert float(inner.loss(kept_N)) == pytest.approx(expected, abs=1e-8)
