"""What cells share: the stages of a cell, and the forest of segments that the cells of a sweep form together.

Two cells train alike up to the first epoch that their difference can touch. So every field declares from which epoch
it acts, and a cell is a row of stages: one begins wherever a field begins to act, and is named by a hash over all
values that have begun to act, and when. Two cells have one state after an epoch when they are in one stage then. A
segment is a stretch of a stage between two epochs at which cells part, or end.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

from core.config import (
    CellConfig,
    as_dict,
    canonical,
    canonical_json,
    first_selection,
    preservation_starts,
    selection_acts_from,
)
from core.data.source import PLACES
from core.preservation import PRESERVERS


@dataclass(frozen=True, order=True)
class Segment:
    """Epochs ``first`` to ``last`` of a stage; ``stage``, 64 hex digits, and an epoch in it name a state."""

    stage: str
    first: int
    last: int


Chain: TypeAlias = tuple[Segment, ...]
"""The segments of one cell, epochs 1 to T without a gap."""


def chain(cell: CellConfig, context: Mapping[str, Any]) -> Chain:
    """The cell's stages, each as one segment.

    ``context`` is plain data on all that the state depends on besides the cell: data digest, torch version, device
    type, dtype, thread count.
    """
    beginning = _beginning(canonical(cell))
    key, segments = _hash(canonical_json(context)), []
    for first, after in pairwise((*sorted(beginning), cell.epochs + 1)):
        key = _hash(f"{key} {first} {canonical_json(beginning[first])}")
        segments.append(Segment(key, first, after - 1))
    return tuple(segments)


def forest(chains: Mapping[str, Chain]) -> dict[str, Chain]:
    """The chains of a sweep's cells, by any name, cut at every epoch at which cells of one stage part.

    Chains that have a segment in common have all segments before it in common: together they are a forest.
    """
    ends: dict[str, set[int]] = defaultdict(set)
    for segments in chains.values():
        for segment in segments:
            ends[segment.stage].add(segment.last)
    cuts = {stage: sorted(epochs) for stage, epochs in ends.items()}
    return {name: tuple(part for s in segments for part in _cut(s, cuts[s.stage])) for name, segments in chains.items()}


def _cut(segment: Segment, ends: list[int]) -> Chain:
    last = [end for end in ends if segment.first <= end <= segment.last]
    return tuple(Segment(segment.stage, a + 1, b) for a, b in pairwise((segment.first - 1, *last)))


def acts_from(cell: CellConfig, field: str) -> int:
    """The first epoch that a field of the canonical cell can touch; T + 1 when it never does."""
    return ACTS_FROM.get(field, _always)(cell)


def _always(cell: CellConfig) -> int:
    return 1


def _selection(cell: CellConfig) -> int:
    """The first selection, or never: nothing before it reads what it chooses by."""
    return selection_acts_from(cell) if cell.coreset_ratio < 1 else cell.epochs + 1


def _later_preservation(cell: CellConfig) -> int:
    """The switch that is given, or never: without one, preservation itself begins with the selection."""
    return cell.epochs + 1 if cell.preservation_from is None else preservation_starts(cell)


def _unless_read(field: str) -> Callable[[CellConfig], int]:
    """The first selection, but epoch 1 when the pruner's own schedule reads ``field``."""
    return lambda cell: 1 if field in cell.pruner.reads() else _selection(cell)


def _rate(cell: CellConfig) -> int:
    """From when on the method prunes; it says so itself."""
    return cell.pruner.acts_from(cell.epochs, first_selection(cell))


ACTS_FROM: Mapping[str, Callable[[CellConfig], int]] = {
    "coreset_ratio": _selection,
    "selector": _selection,
    "preservation": _selection,
    "preservation_weight": _selection,
    "preservation_from": _later_preservation,
    "schedule": _unless_read("schedule"),
    "warmup_epochs": _unless_read("warmup_epochs"),
    "select_every": _unless_read("select_every"),
    "prune_rate": _rate,
    "fc_prune_rate": _rate,
}
"""From which epoch a field acts. A field that is not here acts from the first."""


def _beginning(cell: CellConfig) -> dict[int, dict[str, Any]]:
    """By epoch, the values of the fields of the canonical cell that begin to act in it. There is always epoch 1.

    A cell that preserves nothing before a later switch is until then the one that never does.
    """
    if cell.preservation_from is not None:
        until = _beginning(canonical(replace(cell, preservation=PRESERVERS["none"]())))
        preserved = {"preservation": cell.preservation, "preservation_weight": cell.preservation_weight}
        values = {name: _hashed(value, as_dict(cell, defaults=True)[name]) for name, value in preserved.items()}
        return until | {cell.preservation_from: until.get(cell.preservation_from, {}) | values}
    beginning: dict[int, dict[str, Any]] = defaultdict(dict)
    for field, value in as_dict(cell, defaults=True).items():
        epoch = acts_from(cell, field)
        if epoch <= cell.epochs:
            beginning[epoch][field] = _hashed(getattr(cell, field), _effect(cell, field, value))
    return dict(beginning)


def _effect(cell: CellConfig, field: str, value: Any) -> Any:
    """All that a warm-up decides is the first selection: two that lead to one train alike."""
    return selection_acts_from(cell) if field == "warmup_epochs" else value


def _hashed(method: Any, value: Any) -> Any:
    """What is hashed of a field: a plug-in's parameters without its place, but with its version and foreign origin."""
    if not isinstance(value, dict):
        return value
    parameters = {key: item for key, item in value.items() if key not in PLACES}
    distribution = getattr(method, "distribution", "")
    origin = {"distribution": distribution} if distribution else {}
    return parameters | {"semantics_version": getattr(method, "semantics_version", 1)} | origin


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
