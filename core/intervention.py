"""What a counterfactual run withholds: the removals of one switch, of samples, of weights, or of both.

Our reading of "fork four arms from the checkpoint before the event": the event is the switch at epoch s with its
window, the R epochs s to s + R - 1. An arm allows or withholds what is removed in the window, and only there. To the
horizon min(s + 2R, T) nothing new is removed in any arm: coreset and masks stay as the window left them. So the arms
differ by this one event, and what is left of the gap at the horizon is what training could not repair. An arm that
switches records the state of its new coreset; one that does not keeps the state recorded before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from core import schedule
from core.config import CellConfig, prunes
from core.rng import address

NEVER = sys.maxsize


class InterventionError(ValueError):
    """A switch that no counterfactual can be formed of: one sentence that says why and what is allowed."""


@dataclass(frozen=True)
class Intervention:
    """What is allowed from epoch ``first`` on; before it, everything. The default never begins.

    ``samples``: a coreset is chosen where one is due. ``weights``: the pruner is asked; while it is not, the mask stays
    in force as it is. Both up to epoch ``last`` only. ``draws``: whose order, augmentation and pruning draws are used
    from ``first`` on; 0 is the run's own. Draws go by address, so arms with equal ``draws`` are paired.
    """

    samples: bool = True
    weights: bool = True
    first: int = NEVER
    last: int = NEVER
    draws: int = 0

    def selects(self, epoch: int) -> bool:
        """Whether a selection that is due at the start of the epoch takes place."""
        return epoch < self.first or (self.samples and epoch <= self.last)

    def prunes(self, epoch: int) -> bool:
        """Whether the pruner is asked in the epoch."""
        return epoch < self.first or (self.weights and epoch <= self.last)

    def seed(self, seed: int, epoch: int) -> int:
        """The seed of the epoch's draws, of a run with ``seed``."""
        return seed if self.draws == 0 or epoch < self.first else address(seed, "fork", 0, self.draws)


NOTHING = Intervention()
"""The run as it is."""

ARMS: Mapping[str, tuple[bool, bool]] = {
    "neither": (False, False),
    "weights": (False, True),
    "samples": (True, False),
    "both": (True, True),
}
"""By name: whether the arm's samples and whether its weights are removed in the window."""


@dataclass(frozen=True)
class Fork:
    """Four arms from the state after epoch ``first`` - 1: the window is ``first`` to ``last``, ``horizon`` the end."""

    first: int
    last: int
    horizon: int

    def arm(self, name: str, draws: int) -> Intervention:
        """The intervention of an arm of ``ARMS``."""
        samples, weights = ARMS[name]
        return Intervention(samples, weights, self.first, self.last, draws)


def fork(cell: CellConfig, switch: int) -> Fork:
    """The arms of a cell's switch at epoch ``switch``.

    Raises ``InterventionError`` when the cell does not both prune and select, when its pruner learns through the
    forward pass (its stored weights stay dense: no mask of it can be frozen), when no coreset is chosen at that epoch,
    and when fewer than R epochs are left, the switch's own included: then no recovery could be seen.
    """
    switches, every = schedule.switches(cell), cell.select_every
    if not prunes(cell) or not switches:
        what = "prunes nothing" if switches else "selects no coreset"
        raise InterventionError(f"the cell {what}: nothing can be lost twice; name a joint cell")
    if cell.pruner.learns_forward:
        name = cell.pruner.name
        raise InterventionError(
            f"pruner {name} trains through its mask, which cannot be frozen; confirm a cell of rigl"
        )
    whole = [epoch for epoch in switches if epoch + every - 1 <= cell.epochs]
    known = ", ".join(map(str, whole)) or "none"
    if switch not in switches:
        raise InterventionError(f"epoch {switch} is no switch of the cell; its switches with a window: {known}")
    if switch not in whole:
        left = f"the switch at epoch {switch} has {cell.epochs - switch + 1} of R = {every} epochs left"
        raise InterventionError(f"{left}, so no recovery could be seen; switches with a whole window: {known}")
    return Fork(switch, switch + every - 1, min(switch + 2 * every, cell.epochs))
