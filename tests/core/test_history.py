"""What training notes of every sample, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from core.history import History, entropy, margin


def test_a_margin_is_the_labels_probability_minus_the_largest_other() -> None:
    p_BC = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    assert margin(p_BC.log(), torch.tensor([0, 1, 2])).tolist() == pytest.approx([0.5, -0.5, 0.1])


def test_the_entropy_of_half_and_half_is_the_logarithm_of_two() -> None:
    p_BC = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    expected = [math.log(2), 0, 0.25 * math.log(4) + 0.75 * math.log(4 / 3)]
    assert entropy(p_BC.log()).tolist() == pytest.approx(expected, abs=1e-6)


def test_two_passes() -> None:
    # Sample 1 is seen twice: correct, then wrong: forgotten once, mean margin (.8 - .2) / 2. Sample 2 never.
    past = History.empty(4, torch.device("cpu"))
    first = past.after(
        torch.tensor([1, 0]),
        torch.tensor([0.5, 2.0]),
        torch.tensor([True, False]),
        torch.tensor([0.8, -1]),
        torch.tensor([0.4, 0.6]),
    )
    second = first.after(
        torch.tensor([3, 1]),
        torch.tensor([1.0, 1.5]),
        torch.tensor([True, False]),
        torch.tensor([0, -0.2]),
        torch.tensor([0.1, 0.2]),
    )
    assert second.loss_N.nan_to_num(-1).tolist() == [2, 1.5, -1, 1]
    assert second.correct_N.tolist() == [False, False, False, True]
    assert second.forgotten_N.tolist() == [0, 1, 0, 0]
    assert second.passes_N.tolist() == [1, 2, 0, 1]
    assert second.mean_margin().nan_to_num(9).tolist() == pytest.approx([-1, 0.3, 9, 0])
    assert second.entropy_N.nan_to_num(9).tolist() == pytest.approx([0.6, 0.2, 9, 0.1])
    assert past.passes_N.tolist() == [0, 0, 0, 0]
