"""From what a grid lists to the cells that are trained: canonical, each once, baselines added."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.config import CellConfig, as_dict, canonical, cell_id, derived_warmup, flatten, idle, prunes
from core.preservation import PRESERVERS
from sweeps.spec import SweepSpec


@dataclass(frozen=True)
class Cell:
    """A cell to train: a canonical configuration, and how many listed ones are it.

    ``branched_from``: the collapse event (cell_id-epoch) that it branches off before; empty for the grid's own cells.
    ``controls``: the cell_ids of the dense, prune-only and coreset-only cells that a joint cell brings along.
    """

    cell_id: str
    config: CellConfig
    listed: int
    branched_from: str = ""
    controls: tuple[str, ...] = ()

    @property
    def added(self) -> bool:
        """Whether it is a baseline that the grid does not list."""
        return self.listed == 0 and not self.branched_from


@dataclass(frozen=True)
class Cells:
    """The distinct cells of a sweep, listed ones first in grid order, and how many the grid lists."""

    listed: int
    cells: tuple[Cell, ...]
    open_warmup: bool = False
    """Whether the grid leaves K open somewhere."""

    def own_warmup(self, cell: CellConfig) -> int | None:
        """K where it is a setting of the cell's own; ``None`` where it follows from the ratio, as in an open cell."""
        follows = self.open_warmup and cell.warmup_epochs == derived_warmup(cell)
        return None if follows else cell.warmup_epochs


def expand(spec: SweepSpec) -> Cells:
    """The cells of a grid: cells that train alike are one; joint cells bring their baselines along."""
    times = Counter(map(canonical, spec.listed))
    brought = [(canonical(cell), baselines(cell)) for cell in spec.listed if spec.baselines and joint(cell)]
    distinct = dict.fromkeys((*times, *(control for _, controls in brought for control in controls)))
    ids = {config: cell_id(config) for config in distinct}
    controls = {config: tuple(ids[control] for control in three) for config, three in reversed(brought)}
    cells = (Cell(ids[c], c, times[c], controls=controls.get(c, ())) for c in distinct)
    return Cells(len(spec.listed), tuple(cells), any(cell.warmup_epochs is None for cell in spec.listed))


def joint(cell: CellConfig) -> bool:
    """Whether the cell both prunes and selects."""
    return prunes(cell) and cell.coreset_ratio < 1


def baselines(cell: CellConfig) -> tuple[CellConfig, CellConfig, CellConfig]:
    """Dense, prune-only and coreset-only with the same seed and without preservation, canonical.

    From the cell as listed: a warm-up that it leaves open depends on alpha, and prune-only cells are to be one for all.
    """
    dense: dict[str, Any] = {"prune_rate": 0.0, "fc_prune_rate": None}
    full: dict[str, Any] = {"coreset_ratio": 1.0}
    plain: dict[str, Any] = {"preservation": PRESERVERS["none"]()}
    return (
        canonical(replace(cell, **plain, **dense, **full)),
        canonical(replace(cell, **plain, **full)),
        canonical(replace(cell, **plain, **dense)),
    )


def applies(cell: CellConfig, field: str) -> bool:
    """Whether a field, dotted for parts of plug-ins, does anything in a canonical cell.

    ``prune_rate`` and ``coreset_ratio`` always do: 0 and 1 say that nothing is pruned or selected.
    """
    return field.partition(".")[0] not in _idle(cell)


def _idle(cell: CellConfig) -> frozenset[str]:
    """Those that do nothing, but the ones whose default says that there is none of it."""
    said = {"prune_rate"} if cell.coreset_ratio == 1 else {"prune_rate", "preservation"}
    return idle(cell) - said


def swept_fields(cells: Iterable[CellConfig]) -> tuple[str, ...]:
    """The dotted fields that take more than one value over the canonical cells in which they apply."""
    flat = [(cell, flatten(as_dict(cell, defaults=True))) for cell in cells]
    owners: dict[str, set[str]] = defaultdict(set)
    for _, data in flat:
        for field in data:
            owners[field].add(_method(data, field))
    values: dict[str, set[str]] = defaultdict(set)
    for cell, data in flat:
        unused = _idle(cell)
        for field, methods in owners.items():
            if field.partition(".")[0] not in unused and _method(data, field) in methods:
                values[field].add(repr(data.get(field)))
    return tuple(field for field in owners if len(values[field]) > 1)


def common_and_varied(cells: Iterable[CellConfig]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The dotted fields that have one value in all canonical cells in which they apply, and that value; and those that
    have several, and these.
    """
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    for cell in cells:
        unused = _idle(cell)
        for field, value in flatten(as_dict(cell, defaults=True)).items():
            if field.partition(".")[0] not in unused:
                values[field][repr(value)] = value
    several = {field: list(found.values()) for field, found in values.items() if len(found) > 1}
    return {field: next(iter(found.values())) for field, found in values.items() if field not in several}, several


def _method(data: dict[str, Any], field: str) -> str:
    """The name of the plug-in that a flattened field belongs to; empty for the cell's own fields."""
    return str(data[f"{field.partition('.')[0]}.name"]) if "." in field else ""


def difference(a: CellConfig, b: CellConfig) -> dict[str, tuple[Any, Any]]:
    """The dotted fields in which two cells differ once canonical, and both values.

    ``None`` for a field that a cell lacks or that does nothing in it; ``"null"`` for one that it leaves open.
    """
    flat_a, flat_b = (_acting(canonical(cell)) for cell in (a, b))
    fields = dict.fromkeys((*flat_a, *flat_b))
    return {field: (flat_a.get(field), flat_b.get(field)) for field in fields if flat_a.get(field) != flat_b.get(field)}


def _acting(cell: CellConfig) -> dict[str, Any]:
    """Every dotted field that does something in a canonical cell, and the names of all its methods."""
    flat = flatten(as_dict(cell, defaults=True))
    said = {field: "null" if value is None else value for field, value in flat.items()}
    return {field: value for field, value in said.items() if field.endswith(".name") or applies(cell, field)}


def labels(cells: Collection[Cell]) -> dict[str, str]:
    """By cell_id, each cell of a sweep in a few words: rates, methods, whatever else the sweep varies, and the seed."""
    swept = frozenset(swept_fields(cell.config for cell in cells))
    return {cell.cell_id: label(cell.config, swept) for cell in cells}


def label(cell: CellConfig, told: Collection[str] | None = None) -> str:
    """A cell in a few words, with its dotted fields ``told``; ``None``: what its methods have that is no default.

    What a cell leaves open (null) is left out: it says what is given.
    """
    flat = {field: value for field, value in flatten(as_dict(cell, defaults=True)).items() if value is not None}
    if told is None:
        told = [field for field in flatten(as_dict(cell)) if field.partition(".")[0] in _METHODS]
    parts = [f"p {cell.prune_rate:g}", f"α {cell.coreset_ratio:g}"]
    parts += [_spelled(slot, flat, told) for slot in _METHODS if applies(cell, slot) and flat[f"{slot}.name"] != "none"]
    others = [field for field in flat if field in told and applies(cell, field)]
    parts += [f"{field} {flat[field]}" for field in others if field.partition(".")[0] not in (*_METHODS, *_SAID)]
    return " ".join([*parts, f"seed {cell.seed}"])


_METHODS = ("pruner", "selector", "preservation")
_SAID = ("prune_rate", "coreset_ratio", "seed")


def _spelled(slot: str, flat: Mapping[str, Any], told: Collection[str]) -> str:
    name = flat[f"{slot}.name"]
    settings = [field for field in flat if field in told and field.startswith(f"{slot}.") and field != f"{slot}.name"]
    spelled = ", ".join(f"{field.partition('.')[2]} {flat[field]}" for field in settings)
    return f"{name} ({spelled})" if spelled else str(name)
