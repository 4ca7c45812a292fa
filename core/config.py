"""The configuration of one run: a frozen, validated value with a canonical form and a name of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from core.coresets.samples import Selector
from core.data import SOURCES, SourceChoice
from core.data.source import PLACES
from core.methods import PRUNERS, SELECTORS, PrunerChoice, SelectorChoice
from core.models import MODELS, ModelChoice
from core.plugin import BelowOne, Count, Flag, Natural, NonNegative, Positive, PruneRate, Ratio, plugin
from core.preservation import PRESERVERS, PreserverChoice
from core.pruning.pruner import Pruner

BatchSize = Annotated[int, Strict(), Field(ge=2)]
Epochs = Annotated[int, Strict(), Field(ge=1, le=100_000)]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]


@plugin
class CellConfig:
    """One point of a grid with its seed. Symbols of the paper stand beside the fields they name."""

    data: SourceChoice = SOURCES["digits"]()
    """The data set."""
    model: ModelChoice = MODELS["small_cnn"]()
    """The network."""
    augmentation: Literal["none", "crop_flip"] = "none"
    """Of training images: random crops after a border of 4 pixels, and horizontal flips."""
    epochs: Epochs = 40
    """T."""
    batch_size: BatchSize = 64
    """Samples of an optimizer step at most: the batches of an epoch are equal in size but for one sample."""
    lr: Positive = 0.05
    """Learning rate of SGD in the first epoch; it falls by a cosine to 0 after T epochs."""
    momentum: BelowOne = 0.9
    """Of SGD."""
    nesterov: Flag = True
    """Nesterov's momentum."""
    weight_decay: NonNegative = 5e-4
    """L2, on all parameters."""
    warmup_epochs: Natural | None = None
    """K: no selection in the first K epochs; null is the paper's ceil(T * alpha / 2), and 0 for online selectors."""
    select_every: Count = 20
    """R: a selection in every epoch after K that R divides; online selectors choose in all, and are looked at then."""
    schedule: Literal["printed", "skip"] = "printed"
    """All data until the first selection, or (skip) nothing between the warm-up and half of the epochs."""
    scope: Literal["all", "backbone", "classifier"] = "all"
    """What the prune rate acts on: the paper's cut is all with an FC rate of its own, its trim classifier."""
    prune_rate: PruneRate = 0.0
    """p: share of the weights that is removed in the end, a fraction."""
    fc_prune_rate: PruneRate | None = None
    """Rate of the classifier under scope all; null prunes it together with the rest."""
    pruner: PrunerChoice = PRUNERS["none"]()
    """Which weights are removed, and when."""
    coreset_ratio: Ratio = 1.0
    """alpha: share of the training samples that a coreset holds, a fraction."""
    selector: SelectorChoice = SELECTORS["none"]()
    """Which samples are kept."""
    preservation: PreserverChoice = PRESERVERS["none"]()
    """Which recorded predictions the model is held to."""
    preservation_weight: NonNegative = 0.1
    """lambda: weight of the preservation term in the loss."""
    preservation_from: Count | None = None
    """The first epoch whose coreset's predictions may be recorded; null is the first one with a coreset."""
    seed: Seed = 0
    """Of initialisation, order, augmentation, selection and pruning; the data split has its own."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> CellConfig:
        for key, reason in _conflicts(self):
            raise PydanticCustomError("conflict", "{reason}", {"key": key, "reason": reason})
        return self


def _conflicts(cell: CellConfig) -> Iterator[tuple[str, str]]:
    if cell.nesterov and cell.momentum == 0:
        yield "nesterov", "nesterov: true needs a momentum above 0; set momentum or nesterov: false"
    if cell.fc_prune_rate is not None and cell.scope != "all":
        yield (
            "fc_prune_rate",
            f"fc_prune_rate acts under scope: all only, not under {cell.scope}; remove one of the two",
        )
    if prunes(cell) and cell.pruner.name == "none":
        yield "prune_rate", f"prune_rate {cell.prune_rate:g} needs a pruner; set pruner, one of {_others(PRUNERS)}"
    if cell.coreset_ratio < 1 and cell.selector.name == "none":
        ratio = f"coreset_ratio {cell.coreset_ratio:g}"
        yield "coreset_ratio", f"{ratio} needs a selector; set selector, one of {_others(SELECTORS)}"
    yield from _without_validation(cell)
    earliest = cell.select_every if cell.schedule == "printed" else 1
    if "warmup_epochs" in _reads(cell) and cell.warmup_epochs is None and first_selection(cell) > earliest:
        starts = f"pruner {cell.pruner.name} starts at the first selection, here epoch {first_selection(cell)}"
        differs = "while warmup_epochs is open its prune-only control would start in another epoch"
        yield "pruner", f"{starts}; {differs}; give warmup_epochs or a pruner.start"
    if cell.schedule == "skip" and cell.selector.online and cell.coreset_ratio < 1 and cell.warmup_epochs is None:
        idle = f"schedule: skip trains nothing between warm-up and half of the epochs, and {cell.selector.name} has no"
        yield "schedule", f"{idle} warm-up of its own; give warmup_epochs"
    if cell.coreset_ratio < 1 and _last_selection(cell) < coreset_starts(cell):
        yield _too_late(cell)


def _too_late(cell: CellConfig) -> tuple[str, str]:
    last = _last_selection(cell)
    when = f"the coreset phase would begin in epoch {coreset_starts(cell)}, after the last selection ({last})"
    if cell.schedule == "printed":
        when = f"the first selection would be in epoch {coreset_starts(cell)}, after the last ({cell.epochs})"
    if cell.selector.online:
        return "warmup_epochs", f"warmup_epochs {cell.warmup_epochs}: {when}; lower it"
    default = " (the default)" if cell.select_every == 20 else ""
    return "select_every", f"select_every {cell.select_every}{default}: {when}; lower select_every or warmup_epochs"


def _without_validation(cell: CellConfig) -> Iterator[tuple[str, str]]:
    """Methods that act and look at the validation split, in a cell that has none."""
    acting: dict[str, Pruner | Selector] = {}
    if prunes(cell):
        acting["pruner"] = cell.pruner
    if cell.coreset_ratio < 1:
        acting["selector"] = cell.selector
    for kind, method in acting.items():
        if "validation" in method.needs and cell.data.val_fraction == 0:
            sentence = f"{kind} {method.name} looks at the validation split, but data.val_fraction is 0"
            yield kind, f"{sentence}; raise it or choose another {kind}"


def _others(table: Mapping[str, object]) -> str:
    return ", ".join(name for name in table if name != "none")


def prunes(cell: CellConfig) -> bool:
    """Whether any weight is ever removed."""
    return cell.prune_rate > 0 or (cell.fc_prune_rate or 0) > 0


def warmup_epochs(cell: CellConfig) -> int:
    """K: as given, else what it follows from the ratio."""
    return derived_warmup(cell) if cell.warmup_epochs is None else cell.warmup_epochs


def derived_warmup(cell: CellConfig) -> int:
    """K if left open: ceil(T * alpha / 2) [paper, hyper-parameters]; 0 when nothing is ever selected, or online."""
    if cell.coreset_ratio == 1 or cell.selector.online:
        return 0
    return math.ceil(round(cell.epochs * cell.coreset_ratio / 2, 9))


def selection_interval(cell: CellConfig) -> int:
    """Epochs from one selection to the next: R, or 1 where the selector is online."""
    return 1 if cell.selector.online else cell.select_every


def first_selection(cell: CellConfig) -> int:
    """The first that K and R make due: min{t > K : t mod R = 0}, or K + 1 in the ``skip`` schedule.

    Pruners start by it, whatever the selector, so that a prune-only control prunes like the cells it is compared with.
    """
    warmup = warmup_epochs(cell)
    return warmup + 1 if cell.schedule == "skip" else _next_multiple(warmup, cell.select_every)


def selection_acts_from(cell: CellConfig) -> int:
    """The first epoch that may depend on the coreset or on its absence."""
    warmup = warmup_epochs(cell)
    return warmup + 1 if cell.schedule == "skip" else _next_multiple(warmup, selection_interval(cell))


def _next_multiple(epoch: int, interval: int) -> int:
    return (epoch // interval + 1) * interval


def coreset_starts(cell: CellConfig) -> int:
    """The first epoch trained on a coreset; T + 1 when there is none.

    ``printed``: the first selection. ``skip`` (our reading): the epoch after T/2, or after a longer warm-up.
    """
    if cell.coreset_ratio == 1:
        return cell.epochs + 1
    if cell.schedule == "skip":
        return max(warmup_epochs(cell), cell.epochs // 2) + 1
    return selection_acts_from(cell)


def preservation_starts(cell: CellConfig) -> int:
    """The first epoch whose coreset's predictions are recorded; T + 1 when none are."""
    first = coreset_starts(cell)
    if cell.preservation.name == "none":
        return cell.epochs + 1
    if cell.preservation_from is None or cell.preservation_from <= first:
        return first
    return min(_next_multiple(cell.preservation_from - 1, selection_interval(cell)), cell.epochs + 1)


def _last_selection(cell: CellConfig) -> int:
    interval = selection_interval(cell)
    return cell.epochs // interval * interval


def _reads(cell: CellConfig) -> frozenset[str]:
    """The schedule's fields that the cell's pruner reads."""
    return cell.pruner.reads() if prunes(cell) else frozenset()


def idle(cell: CellConfig) -> frozenset[str]:
    """The fields that do nothing in the cell."""
    found: set[str] = set() if prunes(cell) else {"pruner", "prune_rate", "fc_prune_rate", "scope"}
    if cell.coreset_ratio == 1:
        found |= {"selector", "preservation"} | ({"schedule", "warmup_epochs", "select_every"} - _reads(cell))
    if "preservation" in found or preservation_starts(cell) > cell.epochs or cell.preservation_weight == 0:
        found |= {"preservation", "preservation_weight", "preservation_from"}
    return frozenset(found)


def canonical(cell: CellConfig) -> CellConfig:
    """The one spelling of all cells that train alike: fields that do not act take their default."""
    nothing = idle(cell)
    resets: dict[str, Any] = {name: getattr(_DEFAULT, name) for name in nothing}
    if cell.coreset_ratio < 1:
        resets["warmup_epochs"] = warmup_epochs(cell)
    if "preservation" not in nothing:
        starts = preservation_starts(cell)
        resets["preservation_from"] = None if starts == coreset_starts(cell) else starts
    changes = {name: value for name, value in resets.items() if getattr(cell, name) != value}
    return replace(cell, **changes) if changes else cell


def as_dict(value: Any, *, defaults: bool = False) -> dict[str, Any]:
    """The fields of a configuration or plug-in as plain data; without ``defaults``, only those that differ."""
    data: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if is_dataclass(item):
            changed = defaults or item != field.default
            if changed or field.name == "name":
                data[field.name] = as_dict(item, defaults=defaults)
        elif defaults or field.name == "name" or item != field.default:
            data[field.name] = list(item) if isinstance(item, tuple) else item
    return data


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plug-ins as dotted keys: ``{"pruner.name": "rigl", ...}``. A mapping without a name is one value, as text."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and "name" in value:
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            flat[prefix + key] = ", ".join(f"{part}: {item}" for part, item in value.items())
        else:
            flat[prefix + key] = value
    return flat


def from_dict(data: Mapping[str, Any]) -> CellConfig:
    """The inverse of ``as_dict``. Raises ``pydantic.ValidationError`` on an unknown key, a wrong type or range."""
    return _ADAPTER.validate_python(dict(data))


def canonical_json(data: Mapping[str, Any]) -> str:
    """Sorted, compact JSON: one text per value."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def cell_id(cell: CellConfig) -> str:
    """12 hex digits that name the cell: the hash of the canonical form's non-default fields, wherever its data lie."""
    data = as_dict(canonical(cell))
    data["data"] = {key: value for key, value in data.get("data", {}).items() if key not in PLACES}
    text = canonical_json(data)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_DEFAULT = CellConfig()
_ADAPTER: TypeAdapter[CellConfig] = TypeAdapter(CellConfig)
