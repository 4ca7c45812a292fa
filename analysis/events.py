"""What a collapse event says, and how events are written down."""

import json
import math
from collections import Counter
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
"""What each kind means, gravest first."""
NAMES: dict[str, tuple[str, str]] = {
    "critical_double_loss": ("critical double-loss", "critical double-losses"),
    "single_loss": ("single loss", "single losses"),
    "sparse_capacity": ("loss of sparse capacity", "losses of sparse capacity"),
    "layer_collapse": ("layer collapse", "layer collapses"),
    "divergence": ("divergence", "divergences"),
    "transient": ("transient dip", "transient dips"),
    "unattributed": ("unattributed loss", "unattributed losses"),
}
FILE = "collapse_events.json"
OPEN = "open"
"""The status of an event in a sweep under way that what is trained later may still change."""
CENSORED = "censored"
"""The status of an event with fewer than R epochs left to recover in."""
LASTING = ("critical_double_loss", "single_loss", "sparse_capacity", "layer_collapse")
"""The kinds that do not recover, and are known to be of the cell's weights or samples."""
READ = "reason"
"""The last column of ``table`` that a page shows."""


@dataclass(frozen=True)
class Event:
    """One event of one run; accuracies as fractions, counts over the R epochs from the switch.

    status is ``suspected`` for a critical double-loss, ``censored`` where fewer than R epochs were
    left, ``open`` while the run or a reference goes on to the horizon (waits: which), the verdict of the event's
    confirmation where there is one (confirmation: its gaps and interaction in words), else empty. cause (of a single
    loss) is ``prune`` or ``coreset``. drop is the largest gap
    below the expected course, excess the part that no control lost too. controls maps the
    controls used to their cell_id, control_drop to what they lost themselves; add names the cells
    that would attribute the event; experiment says which of several it is of. confidence is the share of the cell's
    seeds with an event of this kind. Unknown numbers are NaN.
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
    confirmation: str = ""
    waits: tuple[str, ...] = ()
    experiment: str = ""

    @property
    def irreversible(self) -> bool:
        """Whether it is a joint cell's loss of accuracy that is known to have lasted."""
        lasted = self.kind in LASTING and self.status not in (OPEN, CENSORED)
        return self.role == "joint" and lasted and math.isfinite(self.threshold)

    @property
    def cell(self) -> str:
        """The run's cell in words."""
        methods = f"{self.pruner} × {self.selector}"
        rates = f"prune rate {100 * self.prune_rate:g} %, coreset ratio {100 * self.coreset_ratio:g} %"
        where = f"{self.experiment}: " if self.experiment else ""
        return f"{where}{methods}, {rates}, preservation {self.preservation}, seed {self.seed}"


def tag(kind: str, status: str) -> str:
    """An event in a word or two, such as ``critical_double_loss (suspected)``."""
    return f"{kind} ({status})" if status else kind


def suspects(events: Iterable[Event]) -> tuple[Event, ...]:
    """The critical double-losses that no confirmation has judged yet, in the order given."""
    return tuple(event for event in events if event.status == "suspected")


def summary(events: Iterable[Event]) -> str:
    """``7 critical double-losses (6 suspected, 1 confirmed), 3 single losses, 1 refuted as a double loss``."""
    kinds: dict[str, list[Event]] = {}
    refuted = 0
    for event in events:
        if event.status.startswith("refuted"):
            refuted += 1
        else:
            kinds.setdefault(event.kind, []).append(event)
    told = [_counted(kind, kinds[kind]) for kind in KINDS if kind in kinds]
    told += [f"{refuted} refuted as {'a double loss' if refuted == 1 else 'double losses'}"] if refuted else []
    return ", ".join(told) or "none"


def _counted(kind: str, events: list[Event]) -> str:
    one, several = NAMES[kind]
    status = Counter(event.status for event in events if event.status)
    told = ", ".join(f"{n} {name}" for name, n in status.items())
    return f"{len(events)} {one if len(events) == 1 else several}{f' ({told})' * bool(told)}"


def numbers(events: Iterable[Event]) -> dict[str, float]:
    """How many events of each kind, suspected, and refuted, which count as none, under flat names for a tracker."""
    events = tuple(events)
    standing = [event for event in events if not event.status.startswith("refuted")]
    kinds = Counter[str](event.kind for event in standing)
    counts = {f"events_{kind}": float(kinds[kind]) for kind in NAMES}
    refuted = float(len(events) - len(standing))
    return counts | {"events_suspected": float(len(suspects(events))), "events_refuted": refuted}


def table(events: Iterable[Event]) -> pd.DataFrame:
    """A row per event, what a person reads first, first; in the order given."""
    columns = [
        *["event_id", "kind", "status", "cell", "epoch", "drop", "excess", "recovery", "reason", "confirmation"],
        *["cause", "before", "expected", "trough", "trough_epoch", "noise", "threshold", "z", "horizon", "censored"],
        *["lost_support", "shock", "class_imbalance", "samples_removed", "weights_removed", "confidence", "role"],
        *["pruner", "selector", "preservation", "prune_rate", "coreset_ratio", "seed", "cell_id"],
    ]
    return pd.DataFrame([{name: getattr(event, name) for name in columns} for event in events], columns=columns)


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
