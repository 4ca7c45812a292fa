"""Ranking, quotas and the error, on their own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.coresets.inputs import error_of
from core.coresets.ranking import highest, per_class, quotas


def test_highest_takes_the_lowest_index_of_equals() -> None:
    assert highest(torch.tensor([1, 3, 2, 3, 2, 2]), 4).tolist() == [1, 2, 3, 4]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_highest_equals_python(values: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:size])
    assert highest(torch.tensor(values), size).tolist() == expected


def test_highest_refuses_too_many() -> None:
    with pytest.raises(ValueError, match="cannot choose 3 of 2 samples"):
        highest(torch.zeros(2), 3)


def test_quotas_by_largest_remainder() -> None:
    # Counts 5 3 0 2, 4 of 10: shares 2, 1.2, 0, .8: floors 2 1 0 0, the last one to .8.
    labels_N = torch.tensor([0] * 5 + [1] * 3 + [3] * 2)
    assert quotas(labels_N, 4, 4) == [2, 1, 0, 1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_quotas_add_up_and_fit(labels: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(labels)))
    parts = quotas(torch.tensor(labels), 5, size)
    assert sum(parts) == size
    for label, part in enumerate(parts):
        share = labels.count(label) * size / len(labels)
        assert part <= labels.count(label)
        assert abs(part - share) < 1


def test_per_class_returns_indices_into_the_whole_set() -> None:
    labels_N = torch.tensor([1, 0, 1, 0, 1, 1])
    assert per_class(labels_N, 2, 3, lambda index, quota: torch.arange(len(index) - quota, len(index))).tolist() == [
        3,
        4,
        5,
    ]


def test_error_is_probability_minus_label() -> None:
    logits_NC = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    labels_N = torch.arange(7) % 5
    one_hot = torch.nn.functional.one_hot(labels_N, 5)
    torch.testing.assert_close(error_of(logits_NC, labels_N), logits_NC.softmax(1) - one_hot)


def test_error_stays_exact_for_confident_predictions() -> None:
    # p = e^-30 for the wrong class: 1 - p rounds to 1 in float32, and p - y would be 0.
    error_NC = error_of(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    assert error_NC[0].tolist() == pytest.approx([-9.3576e-14, 9.3576e-14], rel=1e-4)
