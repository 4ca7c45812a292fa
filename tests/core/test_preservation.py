"""State preservation: which samples, which divergence, which mean."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn.functional import kl_div

from core.preservation import PRESERVERS, Complete, NoPreservation, Preserved, PreserverChoice, Selective

INDEX_M = torch.tensor([2, 5, 9])
LABELS_M = torch.tensor([0, 1, 1])
LOGITS_MC = torch.tensor([[2.0, 0.0], [0.5, 1.0], [1.0, -1.0]])


def logits(*rows: int) -> Tensor:
    return torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(1))


def test_the_penalty_by_hand() -> None:
    # Recorded (3/4, 1/4), current (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = .1308.
    # Recorded first: the other way round it would be 1/2 ln(2/3) + 1/2 ln 2 = .1438.
    recorded = Complete().record(torch.tensor([4]), torch.tensor([0]), torch.tensor([[3.0, 1.0]]).log(), 6)
    penalty = Complete().penalty(recorded, torch.tensor([4]), torch.zeros(1, 2))
    assert penalty.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_the_batch_mean_equals_torch() -> None:
    recorded = Complete().record(INDEX_M, LABELS_M, LOGITS_MC, 10)
    current = logits(9, 2)
    expected = kl_div(current.log_softmax(1), LOGITS_MC[[2, 0]].softmax(1), reduction="batchmean")
    torch.testing.assert_close(Complete().penalty(recorded, torch.tensor([9, 2]), current), expected)


def test_selective_leaves_out_what_was_misclassified_but_divides_by_the_batch() -> None:
    # Row 2 (sample 9, label 1) was taken for class 0.
    recorded = Selective().record(INDEX_M, LABELS_M, LOGITS_MC, 10)
    assert recorded.keep_N.nonzero().flatten().tolist() == [2, 5]
    current = logits(9, 2)
    only = kl_div(current[1:].log_softmax(1), LOGITS_MC[:1].softmax(1), reduction="sum")
    torch.testing.assert_close(Selective().penalty(recorded, torch.tensor([9, 2]), current), only / 2)


def test_none_keeps_nothing() -> None:
    recorded = NoPreservation().record(INDEX_M, LABELS_M, LOGITS_MC, 10)
    assert NoPreservation().penalty(recorded, torch.tensor([2, 5]), logits(2, 5)).item() == 0


@pytest.mark.parametrize("name", PRESERVERS)
def test_unrecorded_samples_contribute_nothing(name: str) -> None:
    preserver = PRESERVERS[name]()
    recorded = preserver.record(INDEX_M, LABELS_M, LOGITS_MC, 10)
    assert preserver.penalty(recorded, torch.tensor([0, 1]), logits(0, 1)).item() == 0


@pytest.mark.parametrize("name", PRESERVERS)
def test_an_unchanged_state_costs_nothing_and_pulls_nowhere(name: str) -> None:
    preserver = PRESERVERS[name]()
    current = LOGITS_MC.clone().requires_grad_()
    penalty = preserver.penalty(preserver.record(INDEX_M, LABELS_M, LOGITS_MC, 10), INDEX_M, current)
    (gradient,) = torch.autograd.grad(penalty, current)
    assert penalty.item() == pytest.approx(0, abs=1e-7)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


def test_the_gradient_is_the_difference_of_probabilities() -> None:
    current = logits(2, 5, 9).requires_grad_()
    penalty = Complete().penalty(Complete().record(INDEX_M, LABELS_M, LOGITS_MC, 10), INDEX_M, current)
    (gradient,) = torch.autograd.grad(penalty, current)
    torch.testing.assert_close(gradient, (current.softmax(1) - LOGITS_MC.softmax(1)).detach() / 3)


def test_extreme_logits_stay_finite() -> None:
    recorded = Complete().record(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1e4, -1e4]]), 1)
    assert Complete().penalty(recorded, torch.tensor([0]), torch.tensor([[-1e4, 1e4]])).item() == pytest.approx(2e4)


def test_plain_tensors_are_the_whole_record() -> None:
    recorded = Selective().record(INDEX_M, LABELS_M, LOGITS_MC.requires_grad_(), 10)
    again = Preserved(**{name: tensor.clone() for name, tensor in recorded.tensors().items()})
    current = logits(2, 5, 9)
    assert not recorded.log_probs_MC.requires_grad
    assert Selective().penalty(again, INDEX_M, current).item() == Selective().penalty(recorded, INDEX_M, current).item()


@pytest.mark.parametrize("name", PRESERVERS)
def test_the_table_describes_itself(name: str) -> None:
    cls = PRESERVERS[name]
    assert TypeAdapter(PreserverChoice).validate_python(name) == cls()
    assert cls.summary
    assert cls.source
