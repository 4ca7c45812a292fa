"""What a grid file says about running its cells: what each needs of a machine, and when one is given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import CellConfig, as_dict, flatten, prunes
from core.plugin import Count, Fraction, Natural, NonNegative, Positive, Ratio, plugin
from core.rounding import count


@dataclass(frozen=True)
class Need:
    """What one cell needs of a node."""

    cpus: float
    gpus: float

    @property
    def device(self) -> str:
        """Where it trains."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """Threads of arithmetic on the CPU."""
        return max(1, int(self.cpus))


@plugin
class Rule:
    """Other needs for the cells whose fields have the values in ``where`` (dotted keys, such as model.name)."""

    where: dict[str, Any]
    cpus: Positive | None = None
    gpus: NonNegative | None = None


@plugin
class Resources:
    """What one cell needs of a machine (``gpus`` may be a fraction), and how many cells may run at once.

    ``max_concurrent`` above what a cluster holds now lets cells wait for nodes that its autoscaler may add. The first
    of ``rules`` that fits a cell overrides the needs of all.
    """

    cpus: Positive = 1.0
    gpus: NonNegative = 0.0
    max_concurrent: Count | None = None
    rules: list[Rule] = field(default_factory=list)

    def need(self, cell: CellConfig) -> Need:
        """What a cell needs."""
        values = flatten(as_dict(cell, defaults=True)) if self.rules else {}
        for rule in self.rules:
            if all(values.get(key) == value for key, value in rule.where.items()):
                cpus = self.cpus if rule.cpus is None else rule.cpus
                return Need(cpus, self.gpus if rule.gpus is None else rule.gpus)
        return Need(self.cpus, self.gpus)


@plugin
class EarlyStopping:
    """Give up a joint cell whose validation accuracy is below ``below`` for ``patience`` epochs on end.

    Counted from epoch ``after`` + 1 on; an epoch that is not evaluated is as the evaluated ones around it. The rule
    looks at one cell alone, so what is stopped does not depend on the order in which cells run. Baselines are never
    stopped, and a stopped cell enters no mean.
    """

    below: Fraction
    after: Natural = 0
    patience: Count = 5

    def verdict(self, rows: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
        """In which epoch a cell with this history is stopped, and why; ``None`` when it goes on."""
        since = None
        for row in rows:
            if row["epoch"] <= self.after or row["accuracy_val"] is None:
                continue
            low = row["accuracy_val"] < self.below
            since = (since or row["epoch"]) if low else None
            if since is not None and row["epoch"] - since + 1 >= self.patience:
                said = f"validation accuracy below {self.below:g} from epoch {since} to {row['epoch']}"
                return row["epoch"], f"{said} (early_stopping)"
        return None


OnCollapse = Literal["stop", "branch_with_preservation"]
"""What is done about a joint cell that lost accuracy irreversibly at a switch.

``stop``: it is given up where the loss is found while it trains; as with ``EarlyStopping``, baselines never, and it
enters no mean. ``branch_with_preservation``: when all cells are trained, those without preservation are trained once
more from before the switch, with it; such a branch is a row of its own and enters no mean of the grid.
"""


@plugin
class FrontierSearch:
    """Train only as much of the grid as finds the frontier of collapse.

    ``budget_cells``: the share of its cells, controls included, that may be trained. ``seed``: of ties between cells.
    """

    budget_cells: Ratio = 0.3
    seed: Natural = 0

    def most(self, cells: int) -> int:
        """Of so many cells how many it may train."""
        return count(self.budget_cells, cells)


def stops(rule: EarlyStopping | None, cell: CellConfig) -> EarlyStopping | None:
    """The rule that applies to a cell: none to a baseline, whose value others are compared with."""
    return rule if prunes(cell) and cell.coreset_ratio < 1 else None


def unknown_keys(rules: Iterable[Rule], cells: Iterable[CellConfig]) -> list[tuple[int, str, list[str]]]:
    """Keys of ``where`` that no cell has: the rule's place, the key, and the keys there are."""
    alike = {tuple(map(type, vars(cell).values())): cell for cell in cells}  # the same plug-ins: the same keys
    known = sorted({key for cell in alike.values() for key in flatten(as_dict(cell, defaults=True))})
    return [(i, key, known) for i, rule in enumerate(rules) for key in rule.where if key not in known]
