"""What a worker is given of a cell."""

from __future__ import annotations

from dataclasses import dataclass

from core.config import CellConfig
from core.measurements import Measurements
from sweeps.policy import EarlyStopping
from sweeps.stages import Chain


@dataclass(frozen=True)
class Job:
    """A cell and all that its training needs."""

    cell_id: str
    cell: CellConfig
    chain: Chain
    device: str
    checkpoint_seconds: float
    measurements: Measurements
    rule: EarlyStopping | None
    """When to give up; ``None`` for never."""
