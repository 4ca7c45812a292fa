"""The projection onto a budget, against the exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import brentq

from core.projection import project

VALUES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-2, 3))


def test_by_hand() -> None:
    # Sum of the clamped 1 + .8 + .4 = 2.2 exceeds 1.2. Shift v: (1.4 - v clamped) + (.8 - v) + (.4 - v).
    # v = .5: .9 + .3 + 0 = 1.2.
    first, second = project([torch.tensor([1.4, 0.8]), torch.tensor([0.4])], 1.2)
    assert [*first.tolist(), *second.tolist()] == pytest.approx([0.9, 0.3, 0.0], abs=1e-6)


def test_within_the_budget_only_the_bounds_act() -> None:
    (inside,) = project([torch.tensor([-0.5, 0.25, 1.5])], 2)
    assert inside.tolist() == [0, 0.25, 1]


@given(VALUES, st.floats(0, 1))
def test_equals_the_exact_projection(values: np.ndarray, share: float) -> None:
    budget = share * len(values)

    def excess(shift: float) -> float:
        return float(np.clip(values - shift, 0, 1).sum() - budget)

    shift = brentq(excess, 0, max(values.max(), 0) + 1e-9) if excess(0) > 0 else 0.0
    (projected,) = project([torch.from_numpy(values)], budget)
    assert float(projected.sum()) <= budget + 1e-12
    assert float(projected.min()) >= 0
    assert float(projected.max()) <= 1
    np.testing.assert_allclose(projected.numpy(), np.clip(values - shift, 0, 1), atol=1e-6)


def test_all_of_the_budget_by_hand() -> None:
    # Sum .2 + .4 + .9 = 1.5 falls short of 2.1: raised by .2 the last would pass 1, so it stays there, and .25 more on
    # the other two makes .45 + .65 + 1 = 2.1.
    (projected,) = project([torch.tensor([0.2, 0.4, 0.9])], 2.1, spend_all=True)
    assert projected.tolist() == pytest.approx([0.45, 0.65, 1.0], abs=1e-6)


@given(VALUES, st.floats(0, 1))
def test_all_of_the_budget_equals_the_exact_projection(values: np.ndarray, share: float) -> None:
    budget = share * len(values)

    def excess(shift: float) -> float:
        return float(np.clip(values - shift, 0, 1).sum() - budget)

    shift = brentq(excess, min(values.min(), 0) - 1, max(values.max(), 0) + 1e-9)
    (projected,) = project([torch.from_numpy(values)], budget, spend_all=True)
    assert float(projected.sum()) == pytest.approx(budget, abs=1e-6)
    np.testing.assert_allclose(projected.numpy(), np.clip(values - shift, 0, 1), atol=1e-6)
