"""What cells share: the key of a cell's state after each epoch, and its segments.

Two cells train alike up to the first epoch that their difference can touch. So every field declares from which epoch
it acts, and the key after an epoch hashes the key before it with the values that begin to act in it: two cells with
one key have one state. A segment is named by the key after its last epoch, and thus by nothing that lies ahead of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from core.config import CellConfig, as_dict, canonical, canonical_json, first_selection
from core.data.source import PLACES
from core.pruning.gmp import GMP


@dataclass(frozen=True)
class Segment:
    """The epochs ``first`` to ``last`` of a cell. ``key``, 64 hex digits, stands for the state after ``last``."""

    key: str
    first: int
    last: int


def chain(cell: CellConfig, context: Mapping[str, Any]) -> tuple[Segment, ...]:
    """The cell's segments, epochs 1 to T without a gap; one begins wherever a field begins to act.

    ``context`` is plain data on all that the state depends on besides the cell: data digest, torch version, device
    type, dtype, thread count.
    """
    beginning = _beginning(canonical(cell))
    keys = _keys(beginning, cell.epochs, context)
    starts = (*sorted(beginning), cell.epochs + 1)
    return tuple(Segment(keys[after - 2], first, after - 1) for first, after in pairwise(starts))


def epoch_keys(cell: CellConfig, context: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the cell's state after epochs 1 to T. ``context`` as in ``chain``."""
    return _keys(_beginning(canonical(cell)), cell.epochs, context)


def _keys(beginning: Mapping[int, Mapping[str, Any]], epochs: int, context: Mapping[str, Any]) -> tuple[str, ...]:
    news = {epoch: canonical_json(values) for epoch, values in beginning.items()}
    key, keys = _hash(canonical_json(context)), []
    for epoch in range(1, epochs + 1):
        key = _hash(key + news.get(epoch, ""))
        keys.append(key)
    return tuple(keys)


def acts_from(cell: CellConfig, field: str) -> int:
    """The first epoch that a field of the canonical cell can touch; T + 1 when it never does."""
    return ACTS_FROM.get(field, _always)(cell)


def _always(cell: CellConfig) -> int:
    return 1


def _selection(cell: CellConfig) -> int:
    """The first selection, or never: nothing before it reads what it chooses by."""
    return first_selection(cell) if cell.coreset_ratio < 1 else cell.epochs + 1


def _unless_read(field: str) -> Callable[[CellConfig], int]:
    """The first selection, but epoch 1 when the pruner's own schedule reads ``field``."""
    return lambda cell: 1 if field in cell.pruner.reads() else _selection(cell)


def _rate(cell: CellConfig) -> int:
    """gmp prunes nothing before its start, and reaches its rate in the last epoch at the latest."""
    if not isinstance(cell.pruner, GMP):
        return 1
    start = cell.pruner.start
    if start is None:
        return min(first_selection(cell), cell.epochs)
    return next((t for t in range(1, cell.epochs) if (t - 1) / cell.epochs >= start), cell.epochs)


ACTS_FROM: Mapping[str, Callable[[CellConfig], int]] = {
    "coreset_ratio": _selection,
    "selector": _selection,
    "preservation": _selection,
    "preservation_weight": _selection,
    "schedule": _unless_read("schedule"),
    "warmup_epochs": _unless_read("warmup_epochs"),
    "select_every": _unless_read("select_every"),
    "prune_rate": _rate,
    "fc_prune_rate": _rate,
}
"""From which epoch a field acts. A field that is not here acts from the first."""


def _beginning(cell: CellConfig) -> dict[int, dict[str, Any]]:
    """By epoch, the values of the fields of the canonical cell that begin to act in it. There is always epoch 1."""
    beginning: dict[int, dict[str, Any]] = defaultdict(dict)
    for field, value in as_dict(cell, defaults=True).items():
        epoch = acts_from(cell, field)
        if epoch <= cell.epochs:
            beginning[epoch][field] = _hashed(getattr(cell, field), _effect(cell, field, value))
    return dict(beginning)


def _effect(cell: CellConfig, field: str, value: Any) -> Any:
    """All that a warm-up decides is the first selection: two that lead to one train alike."""
    return first_selection(cell) if field == "warmup_epochs" else value


def _hashed(method: Any, value: Any) -> Any:
    """What is hashed of a field: a plug-in's parameters without its place, but with its version."""
    if not isinstance(value, dict):
        return value
    parameters = {key: item for key, item in value.items() if key not in PLACES}
    return parameters | {"semantics_version": getattr(method, "semantics_version", 1)}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
