"""Selectors that cover: cases worked by hand, and the rules against naive ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from submodlib import FacilityLocationFunction
from torch import Tensor

from core.coresets import craig, facility
from core.coresets.ccs import CCS, budgets, strata
from core.coresets.craig import Craig
from core.coresets.d2 import D2, nearest
from core.coresets.difficulty import difficulty, without_hardest
from core.coresets.facility import facility_location
from core.coresets.glister import Glister
from core.coresets.gradients import Gradients
from core.coresets.herding import Herding, herd
from core.coresets.kcenter import KCenter, farthest_first
from core.coresets.samples import Coreset, Samples, Selector
from tests.core.harness import samples

LINE = torch.tensor([0.0, 1, 2, 3, 10, 0, 4, 5, 20])[:, None]
"""Class 0: 0 1 2 3 10, mean 3.2. Class 1: 0 4 5 20, mean 7.25."""
ON_A_LINE = Samples(labels_N=torch.tensor([0] * 5 + [1] * 4), num_classes=2, features_ND=LINE)


def coreset(selector: Selector, given: Samples, size: int, seed: int = 0) -> Coreset:
    return selector.select(given, size=size, progress=0.25, rng=torch.Generator().manual_seed(seed))


def pick(selector: Selector, given: Samples, size: int, seed: int = 0) -> list[int]:
    chosen: list[int] = coreset(selector, given, size, seed).index_M.tolist()
    return chosen


def points(seed: int, n: int, dimensions: int) -> Tensor:
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


many = given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 6), st.data())
few = settings(max_examples=40, deadline=None)


# --- herding, k-center -----------------------------------------------------------------------------------------------


def test_herding_keeps_the_sum_at_the_mean() -> None:
    # |3.2 - x| is least at 3; then 6.4 - 3 = 3.4: of 0 1 2 10 the nearest is 2; then 9.6 - 5 = 4.6: of 0 1 10 it is 1
    # (3.6 away, 10 is 5.4 away); then 12.8 - 6 = 6.8: of 0 and 10 it is 10.
    own = LINE[:5]
    assert herd(own, 5).tolist() == [3, 2, 1, 4, 0]
    # Quotas of 5 in 9: 3 and 2. Class 1: |7.25 - x| is least at 5; 14.5 - 5 = 9.5: 4 is 5.5 away, 20 is 10.5 away.
    assert pick(Herding(), ON_A_LINE, 5) == [1, 2, 3, 6, 7]


@few
@many
def test_herding_is_the_rule(seed: int, n: int, dimensions: int, data: st.DataObject) -> None:
    x, picks = points(seed, n, dimensions), data.draw(st.integers(1, n))
    chosen: list[int] = []
    for k in range(picks):
        missing = (k + 1) * x.mean(0) - x[chosen].sum(0)
        distance_N = (missing - x).norm(dim=1)
        distance_N[chosen] = math.inf
        chosen.append(int(distance_N.argmin()))
    assert herd(x, picks).tolist() == chosen


def test_kcenter_takes_the_farthest() -> None:
    # The mean is 3.2: 3 first. Then 10, 7 away; then 0, 3 away; then 1 and 2 are both 1 away: the lower index.
    assert farthest_first(LINE[:5], 5).tolist() == [3, 4, 0, 1, 2]
    # Class 1, mean 7.25: 5 first, 20 next. Quotas of 5: 3 and 2.
    assert pick(KCenter(balanced=True), ON_A_LINE, 5) == [0, 3, 4, 7, 8]
    # All: mean 5, so 5 first; 20 is 15 away; 0 (two of them) and 10 are 5 away: the lower index, 0; then 10.
    assert pick(KCenter(), ON_A_LINE, 4) == [0, 4, 7, 8]


@few
@many
def test_kcenter_is_the_rule(seed: int, n: int, dimensions: int, data: st.DataObject) -> None:
    x, picks = points(seed, n, dimensions).numpy(), data.draw(st.integers(1, n))
    picked = farthest_first(torch.from_numpy(x), picks).tolist()
    off_center = np.linalg.norm(x - x.mean(0), axis=1)
    assert off_center[picked[0]] == pytest.approx(off_center.min())  # of two points both are as near
    chosen = picked[:1]
    while len(chosen) < picks:
        near = np.linalg.norm(x[:, None] - x[chosen], axis=2).min(1)
        chosen.append(int(near.argmax()))
    assert picked == chosen


def test_kcenter_tells_close_samples_apart() -> None:
    # 1e-4 apart and 1e4 from the origin: squared distances from products are noise in float32.
    features_ND = torch.tensor([[1e4, 0.0], [1e4, 1e-4], [1e4, 3e-4]])
    assert farthest_first(features_ND, 3).tolist() == [1, 2, 0]


# --- facility location -----------------------------------------------------------------------------------------------


def one_class(features_N: list[float]) -> Samples:
    """Equal predictions, so that gradients are as far apart as features, up to one factor."""
    n = len(features_N)
    return Samples(
        torch.zeros(n, dtype=torch.int64), 2, torch.zeros(n, 2), torch.tensor(features_N, dtype=torch.float32)[:, None]
    )


def test_craig_takes_the_middle_of_each_cluster() -> None:
    # Features 0 1 2 3 10 11 13. Sums of distances: 41 35 32 31 38 42 53: sample 3 first. Nearest: 3 2 1 0 7 8 10.
    # Gains then: 10: 7 + 7 + 7 = 21; 11: 6 + 8 + 8 = 22; 13: 4 + 6 + 10 = 20; none of the others above 4: sample 5.
    # They are nearest to {0, 1, 2, 3} and {4, 5, 6}: weights 4 and 3, over their mean 3.5.
    found = coreset(Craig(), one_class([0, 1, 2, 3, 10, 11, 13]), 2)
    assert found.index_M.tolist() == [3, 5]
    assert found.weight_M is not None
    assert found.weight_M.tolist() == pytest.approx([4 / 3.5, 3 / 3.5])


def test_craig_is_the_same_where_distances_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = coreset(Craig(), samples(), 23)
    monkeypatch.setattr(craig, "HELD", 0)
    monkeypatch.setattr(facility, "BLOCK", 64)
    again = coreset(Craig(), samples(), 23)
    assert again.index_M.tolist() == held.index_M.tolist()
    assert held.weight_M is not None
    assert again.weight_M is not None
    torch.testing.assert_close(again.weight_M, held.weight_M)


def located(distance_NN: Tensor, picks: int) -> tuple[list[int], list[int]]:
    reach_N = distance_NN.max().expand(len(distance_NN))
    index, counts = facility_location(distance_NN.__getitem__, reach_N, picks)
    return index.tolist(), counts.tolist()


@few
@many
def test_facility_location_is_the_greedy_choice(seed: int, n: int, dimensions: int, data: st.DataObject) -> None:
    """Every pick is a best one given those before it; of two that cover each other either is."""
    x, picks = points(seed, n, dimensions), data.draw(st.integers(1, n))
    distance_NN = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    chosen, counts = located(distance_NN, picks)
    for k in range(picks):
        totals = torch.stack([distance_NN[:, [*chosen[:k], j]].amin(1).sum() for j in range(n)])
        assert float(totals[chosen[k]]) <= float(totals.min()) + 1e-9
    assert counts == distance_NN[:, chosen].argmin(1).bincount(minlength=picks).tolist()


def test_as_good_as_the_lazy_greedy_of_submodlib() -> None:
    """Their objective, the sum of the largest similarities, on clustered points: equal to rounding."""
    x = points(0, 300, 8) + 4 * points(1, 6, 8).repeat(50, 1)
    distance_NN = torch.cdist(x, x)
    similarity_NN = (distance_NN.max() - distance_NN).float().numpy()
    function = FacilityLocationFunction(n=300, mode="dense", sijs=similarity_NN, separate_rep=False)
    theirs = function.maximize(budget=30, optimizer="LazyGreedy", show_progress=False)
    ours, _ = located(distance_NN, 30)
    objectives = [similarity_NN[:, index].max(1).sum() for index in (ours, [j for j, _ in theirs])]
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-5)


# --- factored gradients ----------------------------------------------------------------------------------------------


def test_factored_products_are_those_of_the_matrices() -> None:
    factored = Gradients.of(samples(n=30, num_classes=3)).double()
    bias_N1 = torch.ones(30, 1, dtype=torch.float64)
    explicit_NCD = torch.einsum("nc,nd->ncd", factored.error_NC, torch.cat([factored.features_ND, bias_N1], 1))
    flat_NP, index = explicit_NCD.flatten(1), torch.tensor([4, 0, 29])
    torch.testing.assert_close(factored.total(), explicit_NCD.sum(0))
    torch.testing.assert_close(factored.norms(), flat_NP.norm(dim=1))
    torch.testing.assert_close(factored.with_one(7), flat_NP @ flat_NP[7])
    torch.testing.assert_close(factored[index].total(), explicit_NCD[index].sum(0))
    torch.testing.assert_close(factored.onto(explicit_NCD[3]), flat_NP @ flat_NP[3])
    torch.testing.assert_close(factored.distances(index), torch.cdist(flat_NP[index], flat_NP), atol=1e-6, rtol=1e-6)


# --- GLISTER ---------------------------------------------------------------------------------------------------------


def glister_case() -> Samples:
    # Two classes, all labels 0, all predictions even: p - y = (-.5, .5), whose product with itself is .5.
    train_ND, val_VD = torch.tensor([[4.0, 0], [3, 0], [0, 2]]), torch.tensor([[1.0, 0], [0, 1]])
    validation = Samples(torch.zeros(2, dtype=torch.int64), 2, torch.zeros(2, 2), val_VD)
    return Samples(torch.zeros(3, dtype=torch.int64), 2, torch.zeros(3, 2), train_ND, validation=validation)


def test_glister_looks_at_the_validation_loss_again_after_every_round() -> None:
    # Gains: the mean over both of .5 (<h_i, h_v> + 1): (2.5 + .5) / 2 = 1.5, (2 + .5) / 2 = 1.25, (.5 + 1.5) / 2 = 1.
    given = glister_case()
    assert pick(Glister(rounds=1, step_size=1.0), given, 2) == [0, 1]
    # A step against sample 0 moves the logits by (.5, -.5) (<h_0, h_v> + 1): (2.5, -2.5) and (.5, -.5). What is still
    # missing from p: 1 - sigma(5) = .0067, 1 - sigma(1) = .269. Gains: (.0067 * 4 + .269) / 2 = .15 for sample 1,
    # (.0067 + .269 * 3) / 2 = .41 for sample 2.
    assert pick(Glister(rounds=2, step_size=1.0), given, 2) == [0, 2]


def test_glister_avoids_what_raises_the_validation_loss() -> None:
    # The other label: p - y = (.5, -.5), and every gain is negative.
    given = glister_case()
    wrong = Samples(torch.tensor([1, 0, 0]), 2, given.logits_NC, given.features_ND, validation=given.validation)
    assert pick(Glister(), wrong, 2) == [1, 2]


# --- difficulty, CCS, D2 ---------------------------------------------------------------------------------------------


def noted(margins: list[float], forgotten: list[int], correct: list[bool] | None = None) -> Samples:
    n = len(margins)
    return Samples(
        labels_N=torch.zeros(n, dtype=torch.int64),
        num_classes=1,
        margin_N=torch.tensor(margins),
        forgotten_N=torch.tensor(forgotten),
        correct_N=torch.tensor(correct or [True] * n),
    )


def test_difficulty_is_finite_and_grows_with_what_is_hard() -> None:
    given = noted([1.0, -1.0, 0.5, math.nan], [0, 3, 0, 2], [True, True, False, True])
    assert difficulty(given, "aum").tolist() == [0, 2, 0.5, 1]
    # Sample 2 is wrong and was never forgotten, so never learnt: once more than the most forgotten.
    assert difficulty(given, "forgetting").tolist() == [0, 3, 4, 2]


def test_the_hardest_are_left_out_but_for_what_is_wanted() -> None:
    score_N = torch.tensor([0.0, 5, 1, 4, 2, 3])
    rng = torch.Generator()
    assert without_hardest(score_N, 0.5, 1, rng).tolist() == [0, 2, 4]
    assert without_hardest(score_N, 0.5, 5, rng).tolist() == [0, 2, 4, 5, 3]
    assert without_hardest(score_N, 0.0, 1, rng).tolist() == [0, 2, 4, 5, 3, 1]


def test_budgets_fill_the_smallest_stratum_first() -> None:
    # 9 of 10 1 0 4: nothing of 0, a third of 9 is 3 but there is 1, half of 8 is 4, and 4 are left.
    assert budgets([10, 1, 0, 4], 9) == [4, 1, 0, 4]
    with pytest.raises(ValueError, match="cannot choose 16 of 15 samples"):
        budgets([10, 1, 0, 4], 16)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.data())
def test_budgets_add_up_and_are_even(counts: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, sum(counts)))
    found = budgets(counts, size)
    assert sum(found) == size
    assert all(0 <= share <= number for share, number in zip(found, counts, strict=True))
    assert all(max(found) - share <= 1 for share, number in zip(found, counts, strict=True) if share < number)


def test_strata_are_of_equal_width() -> None:
    assert strata(torch.tensor([0.0, 0.1, 0.25, 0.5, 1.0]), 4).tolist() == [0, 0, 1, 2, 3]
    assert strata(torch.tensor([2.0, 2.0]), 4).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_ccs_draws_alike_from_all_but_the_hardest(seed: int) -> None:
    # Difficulties 0 .05 .1 1 1.05 1.9 2 2. A quarter is left out: the last two. Three strata of width 1.9 / 3:
    # {0, 1, 2}, {3, 4}, {5}. 5 of them: 5 // 3 = 1 of {5}, 4 // 2 = 2 of {3, 4}, and 2 of {0, 1, 2}.
    given = noted([1, 0.95, 0.9, 0, -0.05, -0.9, -1, -1], [0] * 8)
    chosen = pick(CCS(cutoff=0.25, strata=3), given, 5, seed)
    assert chosen[2:] == [3, 4, 5]
    assert set(chosen[:2]) < {0, 1, 2}
    # 7 of 8: one of the hardest has to come in.
    assert len({6, 7} & set(pick(CCS(cutoff=0.25, strata=3), given, 7, seed))) == 1


def d2_case() -> Samples:
    # On a line at 0 1 5 7, so neighbours in pairs, 1 and 2 apart; forgotten 5 4 1 2 times.
    given = noted([0.0] * 4, [5, 4, 1, 2])
    features_ND = torch.tensor([[0.0], [1], [5], [7]])
    return Samples(given.labels_N, 1, None, features_ND, None, given.correct_N, given.forgotten_N)


def test_d2_lowers_the_neighbours_of_a_pick() -> None:
    # Spread: 5 + 4/e = 6.47, 4 + 5/e = 5.84, 1 + 2/e^2 = 1.27, 2 + 1/e^2 = 2.14. Sample 0 first; it takes e^-.1 6.47 =
    # 5.86 from sample 1, which is left with -.02; so sample 3 is next, and takes e^-.2 2.14 = 1.75 from sample 2.
    given, rule = d2_case(), {"neighbours": 1, "cutoff": 0.0}
    assert [pick(D2(**rule), given, size) for size in (1, 2, 3)] == [[0], [0, 3], [0, 1, 3]]
    # With gamma = 5 it takes only e^-5 6.47 = .04: sample 1 is next.
    assert pick(D2(**rule, gamma=5.0), given, 2) == [0, 1]


def test_d2_sets_the_hardest_aside() -> None:
    # Without sample 0: 4 + 1/e^4 = 4.02, and as above. Sample 1 takes e^-.4 4.02 from its neighbour, sample 2.
    assert pick(D2(neighbours=1, cutoff=0.25), d2_case(), 2) == [1, 3]


@pytest.mark.parametrize("block", [64, 2**25])
def test_neighbours_are_those_of_scikit_learn(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facility, "BLOCK", block)
    x = points(3, 80, 4)
    beside_NK, distance_NK = nearest(x, 5)
    distances, indices = NearestNeighbors(n_neighbors=5).fit(x.numpy()).kneighbors()
    assert beside_NK.tolist() == indices.tolist()
    torch.testing.assert_close(distance_NK, torch.from_numpy(distances))


def test_fewer_samples_than_neighbours() -> None:
    beside_NK, distance_NK = nearest(torch.tensor([[0.0], [2.0]]), 5)
    assert beside_NK.tolist() == [[1], [0]]
    assert distance_NK.tolist() == [[2], [2]]
