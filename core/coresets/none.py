"""No selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.coresets.samples import Coreset, Samples, Selector
from core.plugin import plugin

if TYPE_CHECKING:
    import torch


@plugin
class NoSelection(Selector):
    """All samples: the selector of cells with a coreset ratio of 1, where nothing is ever selected."""

    name: Literal["none"] = "none"

    summary: ClassVar[str] = "all samples, always"
    when: ClassVar[str] = "never"

    def select(self, samples: Samples, *, size: int, progress: float, rng: torch.Generator) -> Coreset:
        """All samples. Raises ``ValueError`` when ``size`` is not their number."""
        import torch

        total = len(samples.labels_N)
        if size != total:
            raise ValueError(f"selector none keeps all {total} samples and cannot choose {size}; name another selector")
        return Coreset(torch.arange(total, device=samples.labels_N.device))
