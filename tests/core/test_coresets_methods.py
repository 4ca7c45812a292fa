"""One case per selector, worked by hand."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from core.coresets.el2n import EL2N
from core.coresets.forgetting import Forgetting
from core.coresets.gradmatch import GradMatch
from core.coresets.grand import GraNd
from core.coresets.moderate import Moderate
from core.coresets.random import Random
from core.coresets.samples import Samples, Selector
from core.coresets.uncertainty import Uncertainty
from tests.core.harness import samples


def pick(selector: Selector, given: Samples, size: int, progress: float = 0.25) -> list[int]:
    return selector.select(given, size=size, progress=progress, rng=torch.Generator().manual_seed(0)).index_M.tolist()


def error_case() -> Samples:
    # Two classes, so |p - y| = sqrt(2) (1 - p_label); the label's probability is .9 .6 .2 | .5 .7 .1.
    label_N = torch.tensor([0, 0, 0, 1, 1, 1])
    p_N = torch.tensor([0.9, 0.6, 0.2, 0.5, 0.7, 0.1])
    p_NC = torch.stack([p_N, 1 - p_N], 1)
    p_NC[3:] = p_NC[3:].flip(1)
    return Samples(labels_N=label_N, num_classes=2, logits_NC=p_NC.log())


def test_el2n_takes_the_hardest_first_and_the_easiest_later() -> None:
    given = error_case()
    # Errors 1 - p: .1 .4 .8 .5 .3 .9
    assert pick(EL2N(), given, 3, progress=0.5) == [2, 3, 5]
    assert pick(EL2N(), given, 3, progress=0.51) == [0, 1, 4]
    assert pick(EL2N(hard_until=1.0), given, 3, progress=1.0) == [2, 3, 5]


def test_el2n_balanced_takes_each_classes_share() -> None:
    # Quotas 2 and 2 of 4; the two hardest of each class.
    assert pick(EL2N(balanced=True), error_case(), 4) == [1, 2, 3, 5]


def test_grand_weighs_the_error_by_the_feature() -> None:
    # Errors .1 .4 .8 .5 .3 .9 as above, times |[h, 1]| = sqrt(10) 1 1 1 sqrt(5) 1: .32 .4 .8 .5 .67 .9.
    given = error_case()
    features_ND = torch.tensor([[3.0], [0], [0], [0], [2], [0]])
    given = Samples(given.labels_N, 2, given.logits_NC, features_ND)
    assert pick(GraNd(), given, 3) == [2, 4, 5]
    assert pick(GraNd(balanced=True), given, 2) == [2, 5]


def test_uncertainty_takes_the_most_uncertain() -> None:
    # 1 - p_1:    .5    .6    .55   .1    .505
    # entropies:  .69   1.08  1.07  .39   .76
    # p_1 - p_2:  0     .05   .175  .85   .005
    rows = [[0.5, 0.5, 0.0], [0.4, 0.35, 0.25], [0.45, 0.275, 0.275], [0.05, 0.9, 0.05], [0.49, 0.495, 0.015]]
    given = Samples(torch.tensor([0, 0, 1, 1, 1]), 3, torch.tensor(rows).log())
    assert [pick(Uncertainty(kind="least_confidence"), given, size) for size in (1, 3)] == [[1], [1, 2, 4]]
    assert [pick(Uncertainty(kind="entropy"), given, size) for size in (1, 3)] == [[1], [1, 2, 4]]
    assert [pick(Uncertainty(kind="entropy"), given, size) for size in (2, 4)] == [[1, 2], [0, 1, 2, 4]]
    assert [pick(Uncertainty(kind="margin"), given, size) for size in (1, 2, 3)] == [[0], [0, 4], [0, 1, 4]]
    # Shares of 2 in 5: .8 and 1.2, so one of each label.
    assert pick(Uncertainty(kind="margin", balanced=True), given, 2) == [0, 4]


@pytest.mark.parametrize("kind", ["least_confidence", "entropy", "margin"])
def test_uncertainty_tells_confident_predictions_apart(kind: Literal["least_confidence", "entropy", "margin"]) -> None:
    # The probabilities of all three round to 1.
    given = Samples(torch.tensor([0, 0, 0]), 2, torch.tensor([[50.0, 0], [0, 30], [40, 0]]))
    assert [pick(Uncertainty(kind=kind), given, size) for size in (1, 2)] == [[1], [1, 2]]


def test_moderate_takes_the_middle_band() -> None:
    # Class 0: features 0 1 2 3 10, median 2, distances 2 1 0 1 8; by rank: 2 (0), 1 (1), 3 (1), 0 (2), 4 (8).
    # Class 1: features 0 4 5 20, median 4.5, distances 4.5 .5 .5 15.5; by rank: 6 (.5), 7 (.5), 5 (4.5), 8 (15.5).
    feature_N = torch.tensor([0.0, 1, 2, 3, 10, 0, 4, 5, 20])
    given = Samples(labels_N=torch.tensor([0] * 5 + [1] * 4), num_classes=2, features_ND=feature_N[:, None])
    # 5 of 9 samples: shares 2.78 and 2.22, so 3 and 2. Class 0 spares one on each side, class 1 likewise.
    assert pick(Moderate(balanced=True), given, 5) == [0, 1, 3, 5, 7]
    # One band: all by rank 2 6 7 1 3 0 5 4 8; 5 of 9 spare two on each side: 7 1 3 0 5.
    assert pick(Moderate(), given, 5) == [0, 1, 3, 5, 7]
    # 2 of 9: three spare below: 1 3 (ranks 3 and 4). Per class: shares 1.11 and .89, so 1 and 1: ranks 2 and 1.
    assert pick(Moderate(), given, 2) == [1, 3]
    assert pick(Moderate(balanced=True), given, 2) == [3, 7]


def test_forgetting_takes_never_learnt_then_most_forgotten() -> None:
    # Sample 0 is wrong and was never forgotten: never learnt. Sample 2 is right and was never forgotten: the last.
    given = Samples(
        labels_N=torch.zeros(5, dtype=torch.int64),
        num_classes=1,
        correct_N=torch.tensor([False, True, True, True, False]),
        forgotten_N=torch.tensor([0, 2, 0, 1, 3]),
    )
    assert [pick(Forgetting(), given, size) for size in (1, 2, 3, 4)] == [[0], [0, 4], [0, 1, 4], [0, 1, 3, 4]]


def test_forgetting_balanced_takes_each_classes_share() -> None:
    # Class 0 was never forgotten, class 1 always: without quotas the two samples would be of class 1.
    label_N, forgotten_N = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 5, 4])
    given = Samples(label_N, 2, correct_N=torch.ones(4).bool(), forgotten_N=forgotten_N)
    assert pick(Forgetting(), given, 2) == [2, 3]
    assert pick(Forgetting(balanced=True), given, 2) == [1, 2]


def test_forgetting_breaks_ties_at_random_not_by_position() -> None:
    given = samples(n=200)
    tied = Samples(
        labels_N=given.labels_N, num_classes=4, correct_N=torch.ones(200).bool(), forgotten_N=torch.ones(200)
    )
    assert max(pick(Forgetting(), tied, 50)) > 150


def test_random_takes_the_largest_draws() -> None:
    # torch.rand(6, seed 0, float64), to two digits; labels 0 0 0 0 1 1.
    draws = torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert [round(x, 2) for x in draws.tolist()] == [0.97, 0.71, 0.46, 0.92, 0.65, 0.79]
    given = Samples(labels_N=torch.tensor([0, 0, 0, 0, 1, 1]), num_classes=2)
    assert pick(Random(), given, 3) == [0, 3, 5]
    # Shares of 4: 2.67 and 1.33, so 3 and 1; without quotas the four largest are 0 1 3 5.
    assert pick(Random(balanced=True), given, 4) == [0, 1, 3, 5]
    # Shares of 2: 1.33 and .67, so 1 and 1.
    assert pick(Random(balanced=True), given, 2) == [0, 5]


def gradient_case(p_N: Tensor, features_ND: Tensor) -> Samples:
    # One class present out of two: p - y = (p - 1, 1 - p).
    logits_NC = torch.stack([p_N, 1 - p_N], 1).log()
    return Samples(torch.zeros(len(p_N), dtype=torch.int64), 2, logits_NC, features_ND)


def test_gradmatch_matches_the_sum_and_fills_up_with_weight_one() -> None:
    # Equal errors e, |e|^2 = .5: <g_i, g_j> = .5 (<h_i, h_j> + 1). Features 0, 0, 2: squared norms with the bias 1 1 5.
    # Products with b = sum g, in units of .5: rows (1 1 1), (1 1 1), (1 1 5): 3 3 7. Sample 2 first: w = 7/5.
    # The residual's products: 3 - 7/5 = 1.6 for samples 0 and 1, which tie: sample 0 is next.
    # [[1, 1], [1, 5]] (u, w) = (3, 7): w = 1, u = 2. The residual's product with sample 1: 3 - 2 - 1 = 0: it ends.
    # Sample 1 fills up with weight 1. Weights 2 1 1, scaled to mean 1.
    given = gradient_case(torch.full((3,), 0.5), torch.tensor([[0.0], [0.0], [2.0]]))
    coreset = GradMatch(ridge=0.0).select(given, size=3, progress=0.5, rng=torch.Generator())
    assert coreset.weight_M is not None
    assert coreset.weight_M.tolist() == pytest.approx([1.5, 0.75, 0.75], abs=1e-6)


def test_gradmatch_ridge() -> None:
    # Features 0 and 2, errors as above: Gram .5 [[1, 1], [1, 5]], products with the sum .5 (2, 6).
    # Relative ridge 1/3 of the mean square 1.5 is .5; absolute 1.5. In units of .5:
    # relative [[2, 1], [1, 6]] (u, w) = (2, 6): u = 6/11, w = 10/11, to mean 1: 3/4, 5/4.
    # absolute [[4, 1], [1, 8]] (u, w) = (2, 6): u = 10/31, w = 22/31, to mean 1: 5/8, 11/8.
    given = gradient_case(torch.full((2,), 0.5), torch.tensor([[0.0], [2.0]]))
    for selector, weights in (
        (GradMatch(ridge=1 / 3), [3 / 4, 5 / 4]),
        (GradMatch(ridge=1.5, absolute=True), [5 / 8, 11 / 8]),
    ):
        coreset = selector.select(given, size=2, progress=0.5, rng=torch.Generator())
        assert coreset.weight_M is not None
        assert coreset.weight_M.tolist() == pytest.approx(weights, abs=1e-6)


def test_gradmatch_by_batches_keeps_batches_together() -> None:
    # 12 samples in 3 batches of 4: two batches are picked for 7 samples, and the second is cut to 3.
    coreset = GradMatch(per="batch", batch_size=4).select(
        samples(n=12), size=7, progress=0.5, rng=torch.Generator().manual_seed(0)
    )
    batches = torch.randperm(12, generator=torch.Generator().manual_seed(0)).split(4)
    shared = sorted(int(torch.isin(batch, coreset.index_M).sum()) for batch in batches)
    assert shared == [0, 3, 4]
    assert coreset.weight_M is not None
    assert len(set(coreset.weight_M.tolist())) == 2
