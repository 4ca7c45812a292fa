"""Masks by exact counts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from core.pruning import scores
from core.pruning.allocation import keep_top
from core.pruning.mask import density, equal, kept, places, top, top_of_all, top_of_each, weigh
from core.pruning.scope import Group, prunable
from core.rounding import count
from tests.core.harness import network


def test_equal_scores_go_to_the_lowest_index() -> None:
    assert top(torch.tensor([[1.0, 2.0, 1.0], [1.0, 2.0, 0.0]]), 4).tolist() == [
        [True, True, True],
        [False, True, False],
    ]


SCORES = st.sampled_from([-math.inf, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0, math.inf, math.nan])


@given(st.lists(SCORES, min_size=1, max_size=40), st.data())
def test_top_equals_python(values: list[float], data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, len(values)))
    ordered = [math.inf if math.isnan(value) else value for value in values]
    best = sorted(range(len(values)), key=lambda i: (-ordered[i], i))[:keep]
    mask = top(torch.tensor(values, dtype=torch.float32), keep)
    assert mask.nonzero().flatten().tolist() == sorted(best)


def test_layers_apart_and_together() -> None:
    given = {"a": torch.tensor([3.0, 1.0, 1.0]), "b": torch.tensor([[2.0], [1.0]])}
    apart = top_of_each(given, {"a": 2, "b": 1})
    assert [keep.flatten().tolist() for keep in apart.values()] == [[True, True, False], [True, False]]
    # 3 and 2, then three ones tie: the first layer's lowest index.
    together = top_of_all(given, 3)
    assert [keep.flatten().tolist() for keep in together.values()] == [[True, True, False], [True, False]]
    assert together["b"].shape == (2, 1)


def test_what_a_mask_keeps() -> None:
    old = {"a": torch.tensor([True, True, False, False])}
    new = {"a": torch.tensor([False, True, True, True])}
    assert kept(new) == {"a": 3}
    assert density(new) == 0.75
    assert density({}) == 1
    assert equal(old, {"a": old["a"].clone()})
    assert not equal(old, new)


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.9, 0.99])
def test_global_magnitude_equals_torch(rate: float) -> None:
    model = network()
    weights = prunable(model)
    total = sum(weight.numel() for weight in weights.values())
    group = Group(tuple(weights), rate)
    mask = keep_top((group,), scores.magnitude({n: w.detach() for n, w in weights.items()}), "global")
    modules = [(module, "weight") for module in model if isinstance(module, (nn.Conv2d, nn.Linear))]
    prune.global_unstructured(modules, prune.L1Unstructured, amount=total - count(group.density, total))
    theirs = {
        name.replace("_mask", ""): buffer.bool() for name, buffer in model.named_buffers() if name.endswith("_mask")
    }
    assert equal(theirs, mask)


@pytest.mark.parametrize("keep", [1, 50, 900])
def test_top_of_many_equals_a_sort_with_nan_outside_the_sample(keep: int) -> None:
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    scores[[5, 1000, 1001, 1002]] = math.nan  # no multiple of 17
    best = scores.nan_to_num(nan=math.inf).sort(descending=True, stable=True).indices[:keep]
    assert torch.equal(top(scores, keep).nonzero().flatten(), best.sort().values)


def test_top_where_the_sample_holds_all_that_is_high() -> None:
    scores = torch.zeros(1700)
    scores[::17] = torch.arange(1.0, 101)
    best = scores.sort(descending=True, stable=True).indices[:200]
    assert torch.equal(top(scores, 200).nonzero().flatten(), best.sort().values)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_places_count_as_in_the_flattened_mask_whatever_its_layout(layout: torch.memory_format) -> None:
    where = (torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3).contiguous(memory_format=layout)
    assert torch.equal(places(where), where.flatten().nonzero().flatten())
    weight = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout)
    assert torch.equal(weight * weigh(where), weight * where)
