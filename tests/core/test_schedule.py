from __future__ import annotations

import math

import pytest

from core.config import CellConfig, first_selection
from core.schedule import due_at, learning_rate, phase, selects, starts_at_random, switches, switches_at

TEN_PERCENT = {"coreset_ratio": 0.1, "selector": "el2n"}


def test_printed_schedule_by_hand() -> None:
    cell = CellConfig(epochs=12, warmup_epochs=3, select_every=3, **TEN_PERCENT)
    assert switches(cell) == (6, 9, 12)
    assert [phase(cell, t) for t in (1, 5, 6, 12)] == ["full", "full", "coreset", "coreset"]


def test_skip_schedule_by_hand() -> None:
    cell = CellConfig(epochs=12, warmup_epochs=2, select_every=4, schedule="skip", **TEN_PERCENT)
    assert [phase(cell, t)[0] for t in range(1, 13)] == list("ffiiiicccccc")
    assert starts_at_random(cell, 7)
    assert not selects(cell, 7)
    assert switches(cell) == (7, 8, 12)


def test_nothing_switches_without_a_coreset() -> None:
    assert switches(CellConfig(epochs=12, select_every=3)) == ()
    assert phase(CellConfig(epochs=12), 12) == "full"


@pytest.mark.parametrize(("alpha", "real"), [(0.1, 0.157), (0.05, 0.110), (0.01, 0.073)])
def test_real_compute_of_the_papers_schedule(alpha: float, real: float) -> None:
    cell = CellConfig(epochs=300, select_every=20, coreset_ratio=alpha, selector="el2n")
    trained = sum(alpha if phase(cell, t) == "coreset" else 1.0 for t in range(1, 301))
    assert trained / 300 == pytest.approx(real, abs=5e-4)


def test_learning_rate_is_a_cosine_of_epochs() -> None:
    cell = CellConfig(epochs=4, lr=0.2)
    assert [learning_rate(cell, t) for t in (1, 2, 3, 4)] == pytest.approx(
        [0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.1 * (1 - math.sqrt(0.5))]
    )


def test_an_online_selector_selects_in_every_epoch_after_the_warm_up() -> None:
    cell = CellConfig(epochs=8, warmup_epochs=2, select_every=3, coreset_ratio=0.1, selector="emp")
    assert [t for t in range(1, 9) if switches_at(cell, t)] == [3, 4, 5, 6, 7, 8]
    assert [phase(cell, t) for t in (2, 3)] == ["full", "coreset"]
    # Those that stand out: the first, and what R makes due.
    assert switches(cell) == (3, 6)
    assert not due_at(cell, 4)


def test_pruners_start_with_the_cells_they_are_compared_with_whatever_the_selector() -> None:
    online = CellConfig(epochs=8, warmup_epochs=3, select_every=3, coreset_ratio=0.1, selector="emp")
    assert switches(online) == (4, 6)
    assert first_selection(online) == first_selection(CellConfig(epochs=8, warmup_epochs=3, select_every=3)) == 6


def test_an_open_warm_up_is_none_for_an_online_selector() -> None:
    cell = CellConfig(epochs=40, coreset_ratio=0.2, selector="infobatch")
    assert all(switches_at(cell, t) for t in range(1, 41))
    assert switches(cell) == (1, 20, 40)


def test_an_online_selector_in_the_skip_schedule() -> None:
    cell = CellConfig(
        epochs=12, warmup_epochs=2, select_every=4, schedule="skip", coreset_ratio=0.1, selector="infobatch"
    )
    assert [phase(cell, t)[0] for t in range(1, 13)] == list("ffiiiicccccc")
    assert [t for t in range(1, 13) if switches_at(cell, t)] == [7, 8, 9, 10, 11, 12]
    assert switches(cell) == (7, 8, 12)
