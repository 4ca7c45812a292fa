"""How kept weights are divided among layers."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.pruning.allocation import erk, keep_top, uniform
from core.pruning.mask import density, kept
from core.pruning.scope import Group
from core.rounding import count

SHAPES = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=6)
DENSITY = st.integers(0, 100).map(lambda percent: percent / 100)


def test_erk_by_hand() -> None:
    # Sums 12, 30, 6 (of 48), sizes 72, 200, 8; half of 280 is 140. Shares of 140: 35, 87.5, 17.5: the third is full.
    # 132 remain for 12 : 30, that is 37.71 and 94.29: 37 and 94, and the larger remainder takes the last one.
    shapes = [(4, 2, 3, 3), (10, 20), (2, 4)]
    assert erk(shapes, 140, [72, 200, 8]) == [38, 94, 8]


def test_erk_fills_layer_after_layer() -> None:
    # Sums 2, 4, 22; sizes 1, 4, 40. 10 % of 450 ... here 30 of 45: shares 2.1, 4.3, 23.6: the first two are full.
    assert erk([(1, 1), (2, 2), (2, 20)], 30, [1, 4, 40]) == [1, 4, 25]


def test_uniform_rounds_every_layer() -> None:
    assert uniform([(3, 3), (5, 1)], 0.5) == [5, 3]


@given(SHAPES, DENSITY)
def test_erk_is_exact_and_proportional(shapes: list[list[int]], share: float) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    total = count(share, sum(sizes))
    parts = erk(shapes, total, sizes)
    assert sum(parts) == total
    assert all(0 <= part <= size for part, size in zip(parts, sizes, strict=True))
    # Layers that are not full share one factor, up to rounding; full ones would have got more by it.
    rest = [i for i, part in enumerate(parts) if part < sizes[i]]
    if rest:
        factor = Fraction(sum(parts[i] for i in rest), sum(sum(shapes[i]) for i in rest))
        assert all(abs(parts[i] - factor * sum(shapes[i])) <= len(shapes) for i in rest)


@given(SHAPES, DENSITY, st.sampled_from(["global", "uniform", "erk"]), st.integers(0, 99))
def test_masks_are_exact(shapes: list[list[int]], rate: float, allocation: str, seed: int) -> None:
    rate = min(rate, 0.99)
    draw = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.randint(3, shape, generator=draw) for i, shape in enumerate(shapes)}
    group = Group(tuple(scores), rate)
    mask = keep_top((group,), scores, allocation)  # type: ignore[arg-type]
    sizes = [score.numel() for score in scores.values()]
    if allocation == "uniform":
        assert list(kept(mask).values()) == [count(group.density, size) for size in sizes]
    else:
        assert sum(kept(mask).values()) == count(group.density, sum(sizes))


@given(SHAPES, st.sampled_from(["global", "uniform", "erk"]), st.integers(0, 99))
def test_within_a_mask_nothing_regrows(shapes: list[list[int]], allocation: str, seed: int) -> None:
    """Largest remainders are not monotone in the total, so a falling density alone would not ensure it."""
    draw = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.rand(shape, generator=draw) for i, shape in enumerate(shapes)}
    group = Group(tuple(scores), 0.9)
    mask = keep_top((group,), scores, "global", position=0.0)
    for step in range(1, 9):
        scores = {layer: score.roll(1) for layer, score in scores.items()}
        new = keep_top((group,), scores, allocation, position=step / 8, within=mask)  # type: ignore[arg-type]
        assert all(bool((mask[layer] | ~keep).all()) for layer, keep in new.items())
        mask = new
    if allocation != "uniform":
        assert sum(kept(mask).values()) == count(group.density, sum(score.numel() for score in scores.values()))


def test_groups_have_their_own_rates() -> None:
    scores = {"a": torch.rand(10, 10), "b": torch.rand(10, 10)}
    mask = keep_top((Group(("a",), 0.9), Group(("b",), 0.5)), scores, "global")
    assert kept(mask) == {"a": 10, "b": 50}
    assert density(mask) == 0.3


def test_a_layer_that_would_gain_by_rounding_keeps_what_it_has() -> None:
    # Sums 5 5 2 of 12. 4 weights: 1.67 1.67 .67, floors 1 1 0, then two of three equal remainders: 2 2 0.
    # 3 weights: 1.25 1.25 .5: 1 1 1, the third layer would regrow. Within the mask: 1.5 and 1.5, so 2 1 0.
    shapes = [(4, 1), (4, 1), (1, 1)]
    assert erk(shapes, 4, [4, 4, 1]) == [2, 2, 0]
    assert erk(shapes, 3, [4, 4, 1]) == [1, 1, 1]
    scores = {str(i): torch.ones(shape) for i, shape in enumerate(shapes)}
    four = keep_top((Group(tuple(scores), 5 / 9),), scores, "erk")
    three = keep_top((Group(tuple(scores), 6 / 9),), scores, "erk", within=four)
    assert list(kept(four).values()) == [2, 2, 0]
    assert list(kept(three).values()) == [2, 1, 0]
