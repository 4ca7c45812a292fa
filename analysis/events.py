"""What a collapse event says, and how events are written down."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

Kind = Literal[
    "transient",
    "divergence",
    "layer_collapse",
    "single_loss",
    "sparse_capacity",
    "critical_double_loss",
    "unattributed",
]
KINDS: dict[str, str] = {
    "critical_double_loss": "a joint cell's own lasting loss, weights and samples both removed in the window",
    "single_loss": "a lasting loss that a single treatment shows too, or has alone",
    "sparse_capacity": "a joint cell's own lasting loss in a window that did not take both weights and samples",
    "layer_collapse": "a layer without a live weight",
    "divergence": "the loss is not finite, or exploded",
    "transient": "at least half of the drop was back at the horizon",
    "unattributed": "no controls to tell whose loss it is",
}


@dataclass(frozen=True)
class Event:
    """One event of one run; accuracies as fractions, counts over the R epochs from the switch.

    status is ``suspected`` for a critical double-loss, ``censored`` where fewer than R epochs were
    left, else empty. cause (of a single loss) is ``prune`` or ``coreset``. drop is the largest gap
    below the expected course, excess the part that no control lost too. controls maps the
    controls used to their cell_id, control_drop to what they lost themselves; add names the cells
    that would attribute the event. confidence is the share of the cell's seeds with an event of
    this kind. Unknown numbers are NaN.
    """

    event_id: str
    cell_id: str
    epoch: int
    kind: Kind
    status: str
    cause: str
    role: str
    pruner: str
    selector: str
    preservation: str
    prune_rate: float
    coreset_ratio: float
    seed: int
    accuracy: str
    before: float
    expected: float
    trough: float
    trough_epoch: int
    drop: float
    excess: float
    noise: float
    threshold: float
    z: float
    recovery: float
    horizon: int
    censored: bool
    never_launched: bool
    samples_removed: float
    samples_added: float
    weights_removed: float
    weights_grown: float
    layers: dict[str, dict[str, float]]
    lost_support: float
    shock: float
    class_imbalance: float
    controls: dict[str, str]
    control_drop: dict[str, float]
    add: tuple[str, ...]
    confidence: float
    reason: str


def table(events: Iterable[Event]) -> pd.DataFrame:
    """The events as a frame for a page: what a person reads first, first."""
    columns = [
        *["kind", "status", "cause", "epoch", "pruner", "selector", "preservation", "prune_rate"],
        *["coreset_ratio", "seed", "before", "expected", "trough", "drop", "excess", "z", "recovery", "lost_support"],
        *["shock", "class_imbalance", "samples_removed", "weights_removed", "confidence", "cell_id", "reason"],
    ]
    return pd.DataFrame([asdict(event) for event in events], columns=columns)


def to_json(events: Iterable[Event]) -> str:
    """The events as a JSON list; a number that is not known is null."""
    return json.dumps([_plain(asdict(event)) for event in events], ensure_ascii=False, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return round(value, 9) if math.isfinite(value) else None
    return value
