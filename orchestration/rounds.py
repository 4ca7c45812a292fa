"""Cells run in one or several rounds over one store, with one observer and one budget for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from orchestration.dispatch import NOBODY, Budget, Dispatch
from orchestration.observer import Observer
from orchestration.sweep import Sweep
from sweeps.cells import Cell
from sweeps.plan import Plan

Run: TypeAlias = Callable[[Dispatch, Sequence[Cell]], None]
"""Runs the cells that the dispatch hands out, in this process or on a cluster."""


class Rounds:
    """Hands some of a plan's cells to what runs them, and keeps account of the budget."""

    def __init__(
        self, sweep: Sweep, plan: Plan, observer: Observer, budget: Budget, stops: Mapping[str, str] = NOBODY
    ) -> None:
        self._sweep = sweep
        self._plan = plan
        self._observer = observer
        self._stops = stops
        self.budget = budget
        """What is left of it."""
        self.exhausted = False
        """Whether the budget was used up before a round's end."""

    def run(self, cells: Sequence[Cell], run: Run) -> None:
        """Run these cells, with what of their trunks is stored by now."""
        plan = replace(self._plan, done=self._sweep.snapshot().done(cells))
        dispatch = Dispatch(self._sweep, plan, cells, self._observer, self.budget, self._stops)
        try:
            if not dispatch.exhausted:
                run(dispatch, cells)
        finally:
            self.budget = self.budget.less(dispatch.seconds, dispatch.flop)
            self.exhausted = dispatch.exhausted and not dispatch.over
