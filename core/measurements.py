"""What is measured of a run beside its training. None of it changes the training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurements:
    """How much is measured, and how often."""

    support_samples: int = 0
    """Of each side, looked at in measuring what a switch takes; 0 measures nothing."""
    evaluate_every: int = 1
    """Validation and test split are evaluated after epochs N - 1, 2 N - 1, ... for N of these, and after the last one.

    A run that diverges is evaluated after the epoch in which it does.
    """

    def evaluates(self, epoch: int, epochs: int) -> bool:
        """Whether the splits are evaluated after ``epoch`` of ``epochs``: ahead of a switch where N divides R."""
        return (epoch + 1) % self.evaluate_every == 0 or epoch == epochs


TRAINING_ALONE = Measurements()
"""Evaluation after every epoch, and nothing else."""
