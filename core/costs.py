"""The running cost of a run: counts samples cheaply in the hot path, turns them into FLOP when the mask changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from core.flops import LayerMacs, Ledger, calibration_flops, forward_flops, scoring_flops, training_flops

Demand = Literal["never", "updates", "always"]
DENSE: Mapping[str, float] = {}


class Meter:
    """Sums one ledger between two calls of ``take``."""

    def __init__(self, layers: Sequence[LayerMacs]) -> None:
        self._full = self._layers = tuple(layers)
        self._ledger = Ledger()
        self._density = DENSE
        self._samples = 0
        self._dense_gradient_samples = 0

    def train(
        self, batch: int, density: Mapping[str, float] = DENSE, *, updated: bool = False, demand: Demand = "never"
    ) -> None:
        """One training step on ``batch`` samples under the mask of ``density``; ``updated``: the pruner renewed it."""
        if density is not self._density:
            self._flush()
            self._density = density
        self._samples += batch
        if demand == "always" or (demand == "updates" and updated):
            self._dense_gradient_samples += batch

    def score(self, samples: int, density: Mapping[str, float] = DENSE) -> None:
        """A forward pass for selection or state recording."""
        self._ledger += scoring_flops(self._layers, samples, density)

    def choose(self, flop: float) -> None:
        """What a selector computes beside its passes."""
        self._ledger += Ledger(dense=flop, selection=flop)

    def calibrate(self, samples: int, *, backward: bool = False) -> None:
        """A pass that the pruner asked for, forward or backward."""
        self._ledger += calibration_flops(self._layers, samples * (not backward), samples * backward)

    def beside(self, layers: Sequence[LayerMacs], *, forward: int, backward: int) -> None:
        """Passes of another network, of these layers, that a selector trains: so many samples forward and backward."""
        self._ledger += calibration_flops(layers, forward, backward)

    def evaluate(self, samples: int) -> None:
        """A forward pass for evaluation, as dense kernels execute it; kept apart from every ledger that is compared."""
        self._ledger += Ledger(evaluation=samples * forward_flops(self._layers))

    def measure(self, samples: int) -> None:
        """Per-sample gradients of a measurement, three products a layer; kept apart like evaluation."""
        self._ledger += Ledger(evaluation=training_flops(self._layers, samples).dense)

    def reshaped(self, layers: Sequence[LayerMacs]) -> None:
        """The network is another from the next step on; the yardstick stays."""
        self._flush()
        self._layers = tuple(layers)

    def full_epoch(self, samples: int) -> float:
        """Dense training of the whole network on ``samples`` samples: the yardstick of relative cost."""
        return training_flops(self._full, samples).dense

    def take(self) -> Ledger:
        """The cost since the last call."""
        self._flush()
        ledger, self._ledger = self._ledger, Ledger()
        return ledger

    def _flush(self) -> None:
        if self._samples:
            self._ledger += training_flops(self._layers, self._samples, self._density, self._dense_gradient_samples)
        self._samples = self._dense_gradient_samples = 0
