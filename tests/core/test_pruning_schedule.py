"""When masks change and how far."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pruning.schedule import PerInterval, cosine, cubic, density_at, is_due, temperature
from tests.core.harness import moment


def test_cubic_by_hand() -> None:
    # A third and two thirds of the way: 1 - (2/3)^3 = 19/27, 1 - (1/3)^3 = 26/27.
    assert [cubic(x, 0.0, 0.75) for x in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([0, 19 / 27, 26 / 27, 1, 1])


def test_a_ramp_that_starts_after_its_end_is_a_step() -> None:
    assert [cubic(x, 0.8, 0.75) for x in (0.76, 0.79, 0.8)] == [0, 0, 1]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_cubic_rises_within_bounds(a: float, b: float, start: float, end: float) -> None:
    low, high = sorted((cubic(min(a, b), start, end), cubic(max(a, b), start, end)))
    assert 0 <= low <= high <= 1
    assert cubic(min(a, b), start, end) <= cubic(max(a, b), start, end) + 1e-12


def test_densities_are_exact_at_both_ends() -> None:
    assert density_at(0.9, 1.0) == 0.1
    assert density_at(0.9, 0.0) == 1.0
    assert density_at(0.5, 0.5) == 0.75


def test_cosine_by_hand() -> None:
    assert [cosine(x, 0.75) for x in (0.0, 0.375, 0.75)] == pytest.approx([1, 0.5, 0])
    assert 0.3 * cosine(0.25, 0.75) == pytest.approx(0.5 * 0.3 * (1 + math.cos(math.pi / 3)))


def test_temperature_rises_from_1_to_33() -> None:
    assert temperature(0) == pytest.approx(1)
    assert temperature(1) == pytest.approx(33.33, abs=0.01)
    assert temperature(0.5) == pytest.approx(1 / 0.515)


def test_steps_are_counted_over_the_run_and_not_at_its_start() -> None:
    # 3 steps per epoch: steps 0-2, 3-5, 6-8.
    due = [moment(epoch, i).step for epoch in (1, 2, 3) for i in range(3) if is_due(4, moment(epoch, i))]
    assert due == [4, 8]


def test_per_interval_by_hand() -> None:
    # R = 2, 3 steps per epoch: epochs 2 and 3 hold steps 1..6, 4 updates after 1.5, 3, 4.5, 6 of them: 2 3 5 6.
    clock = PerInterval(per_interval=4)
    due = [(epoch, i) for epoch in (2, 3) for i in range(3) if is_due(clock, moment(epoch, i))]
    assert due == [(2, 1), (2, 2), (3, 1), (3, 2)]


@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 7), st.integers(1, 3))
def test_every_interval_holds_its_updates_evenly(n: int, every: int, steps: int, interval: int) -> None:
    clock = PerInterval(per_interval=n)
    moments = [
        moment(epoch, i, epochs=99, steps=steps, every=every)
        for epoch in range(interval * every, (interval + 1) * every)
        for i in range(steps)
    ]
    due = [number for number, now in enumerate(moments) if is_due(clock, now)]
    assert len(due) == min(n, every * steps)
    gaps = {b - a for a, b in zip([-1, *due], due, strict=False)}
    assert max(gaps) - min(gaps) <= 1
    assert due[-1] == len(moments) - 1


@given(st.integers(1, 9), st.integers(2, 9))
def test_a_smaller_coreset_updates_as_often(n: int, every: int) -> None:
    def updates(steps: int) -> int:
        return sum(
            is_due(PerInterval(per_interval=n), moment(epoch, i, epochs=99, steps=steps, every=every))
            for epoch in range(every, 2 * every)
            for i in range(steps)
        )

    assert updates(9) == updates(50) == n
