"""Removing little by little, along a cubic schedule. Methods differ in what they remove."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from core.plugin import Fraction, Ratio, plugin
from core.pruning.pruner import Pruner
from core.pruning.schedule import UpdateEvery, begins, cubic, fields_read, is_due, updates_due

if TYPE_CHECKING:
    from core.pruning.pruner import Change, Moment, State, View


@plugin
class Scheduled(Pruner):
    """Approach the prune rate cubically from 0, and never go back.

    ``start`` and ``end`` are fractions of the epochs; ``start: null`` is the epoch of the first selection.
    Our reading: the target is also set at the first step of every epoch from ``end`` on, and of the last epoch, so that
    it is met however few steps a small coreset leaves.
    """

    start: Fraction | None = None
    """Of the epochs, when pruning begins; null: with the first selection."""
    end: Ratio = 0.75
    """Of the epochs, when the prune rate is reached."""
    update_every: UpdateEvery = 100

    when: ClassVar[str] = "from start to end, at every update_every; nothing grows again"

    def observe(self, state: State, view: View) -> State:
        """What the method carries from step to step, renewed after every backward pass. The default carries nothing."""
        return state

    def met(self, state: State, view: View) -> bool:
        """Whether the final target is reached already, so that there is nothing left to decide."""
        raise NotImplementedError

    def approach(self, state: State, view: View, position: float) -> tuple[State, Change | None]:
        """Remove down to the share ``position``, in (0, 1], of the prune rate."""
        raise NotImplementedError

    @override
    def step(self, state: State, view: View) -> tuple[State, Change | None]:
        moment, state = view.moment, self.observe(state, view)
        position = self.position(moment)
        settles = position == 1 and moment.step_in_epoch == 0
        if position == 0 or not (settles or is_due(self.update_every, moment)):
            return state, None
        if position == 1 and self.met(state, view):
            return state, None
        return self.approach(state, view, position)

    @override
    def position(self, moment: Moment) -> float:
        start = (moment.first_selection - 1) / moment.epochs if self.start is None else self.start
        return 1.0 if moment.epoch == moment.epochs else cubic(moment.progress, start, self.end)

    @override
    def updates(self, moment: Moment) -> int:
        before = self.position(replace(moment, epoch=moment.epoch - 1)) if moment.epoch > 1 else 0.0
        now = self.position(moment)
        if now == 0 or before == 1:
            return 0
        # Met at the epoch's first step; what is due later in it has nothing left to decide.
        return 1 if now == 1 else updates_due(self.update_every, moment)

    @override
    def acts_from(self, epochs: int, first_selection: int) -> int:
        """The start: what a method observes before does not depend on the rate."""
        return begins(self.start, epochs, first_selection)

    @override
    def reads(self) -> frozenset[str]:
        first_selection = {"warmup_epochs", "select_every", "schedule"} if self.start is None else set()
        return fields_read(self.update_every) | first_selection
