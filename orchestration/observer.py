"""Who is told what happens in a sweep: the live table and the tracking sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Report:
    """A cell's latest epoch: accuracies in [0, 1], ``stored`` the newest epoch with a checkpoint (0: none yet)."""

    cell_id: str
    epoch: int
    accuracy_val: float | None
    accuracy_test: float
    stored: int


class Observer(Protocol):
    """Called by the driver, in order, from one thread."""

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""

    def progressed(self, report: Report) -> None:
        """The cell trained on."""

    def finished(self, cell_id: str) -> None:
        """The cell's last epoch is in the store."""

    def failed(self, cell_id: str, reason: str) -> None:
        """The cell ended with an error; the others go on."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    members: tuple[Observer, ...]

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""
        for member in self.members:
            member.started(cell_id)

    def progressed(self, report: Report) -> None:
        """The cell trained on."""
        for member in self.members:
            member.progressed(report)

    def finished(self, cell_id: str) -> None:
        """The cell's last epoch is in the store."""
        for member in self.members:
            member.finished(cell_id)

    def failed(self, cell_id: str, reason: str) -> None:
        """The cell ended with an error."""
        for member in self.members:
            member.failed(cell_id, reason)
