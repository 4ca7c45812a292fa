"""What is cut out of a network: the value that pruners return and ``core.surgery`` carries out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Place: TypeAlias = tuple[str, int]
"""A dimension of a parameter or buffer, named as in the model."""


@dataclass(frozen=True)
class Surgery:
    """What stays of the network as it stands; the rest is cut out, and tensors shrink. An empty one leaves all.

    All surgeries of a run, one after another, have this form together: with it the network of a checkpoint is made from
    a new one.
    """

    kept: Mapping[Place, Tensor] = field(default_factory=dict)
    """The indices that stay, ascending, at least one; a dimension that is not in it stays whole."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """By the weight of a linear layer: the layer becomes two, whose product is the nearest of this rank."""

    @property
    def empty(self) -> bool:
        """Whether it leaves all as it is."""
        return not self.kept and not self.ranks
