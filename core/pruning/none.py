"""No pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from typing_extensions import override

from core.plugin import plugin
from core.pruning.pruner import Pruner

if TYPE_CHECKING:
    from core.pruning.pruner import Mask, State, View


@plugin
class NoPruning(Pruner):
    """Every weight stays, whatever the rate: the dense baseline."""

    name: Literal["none"] = "none"

    summary: ClassVar[str] = "no weight is ever removed"
    when: ClassVar[str] = "never"

    @override
    def init(self, view: View) -> tuple[State, Mask | None]:
        return {}, None
