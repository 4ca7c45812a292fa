"""The fold from a run's events to one history row per epoch (the columns of the history table, and more)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from typing import Any

from core.events import (
    CoresetSelected,
    EpochEnded,
    Evaluation,
    Event,
    LayerChange,
    MaskChanged,
    Support,
    SupportMeasured,
)


def history_row(events: Iterable[Event]) -> dict[str, Any]:
    """The row of one epoch from its events (those of initialisation belong to epoch 1). Not-finite numbers become null.

    Accuracies in [0, 1], costs of this epoch alone in FLOP, times in seconds, ``time`` when the epoch ended (Unix).
    """
    row: dict[str, Any] = {"switch": False, "samples_removed": 0, "samples_added": 0, "noise_ratio": None}
    masks: list[MaskChanged] = []
    for event in events:
        if isinstance(event, CoresetSelected):
            row |= {"switch": event.due, "samples_removed": event.removed, "samples_added": event.added}
            row |= {"noise_ratio": event.noise_ratio}
        elif isinstance(event, SupportMeasured):
            row |= _support(event.support)
        elif isinstance(event, MaskChanged):
            masks.append(event)
        elif isinstance(event, EpochEnded):
            row |= _ended(event)
    row |= {"weights_removed": sum(m.removed for m in masks), "weights_grown": sum(m.grown for m in masks)}
    row |= {"layers": _layers(masks), "time": time.time()}
    return {key: _finite(value) for key, value in row.items()}


def _support(support: Support) -> dict[str, Any]:
    return {
        "lost_support": support.lost,
        "lost_support_random": support.lost_random,
        "lost_support_class": [_finite(lost) for lost in support.lost_by_class],
        "shock": support.shock,
        "class_imbalance": support.class_imbalance,
    }


def _ended(event: EpochEnded) -> dict[str, Any]:
    return {
        "epoch": event.epoch,
        "accuracy_test": event.test and event.test.accuracy,
        "accuracy_val": event.val and event.val.accuracy,
        **_by_class(event.test),
        "loss_train": event.loss_train,
        "loss_val": event.val and event.val.loss,
        "loss_test": event.test and event.test.loss,
        "loss_preservation": event.loss_preservation,
        "lr": event.lr,
        "density": event.density,
        "coreset_size": event.trained,
        "dead_layers": event.dead_layers,
        "noisy_clean_loss": event.noisy_clean_loss,
        "flops_dense": event.cost.dense,
        "flops_sparse": event.cost.sparse,
        "flops_selection": event.cost.selection,
        "flops_evaluation": event.cost.evaluation,
        "flops_full": event.full_cost,
        "seconds": event.seconds,
        "seconds_select": event.seconds_select,
        "seconds_prune": event.seconds_prune,
    }


def _by_class(test: Evaluation | None) -> dict[str, Any]:
    if test is None:
        return {"accuracy_worst_class": None, "accuracy_class": None}
    known = [accuracy for accuracy in test.class_accuracy if not math.isnan(accuracy)]
    by_class = [_finite(accuracy) for accuracy in test.class_accuracy]
    return {"accuracy_worst_class": min(known, default=None), "accuracy_class": by_class}


def _layers(masks: list[MaskChanged]) -> str | None:
    """Per layer what the epoch removed and grew and the density it ended with, as JSON; ``None`` without a change."""
    layers: dict[str, LayerChange] = {}
    for mask in masks:
        for name, change in mask.layers.items():
            before = layers.get(name, LayerChange(0, 0, 1.0))
            removed, grown = before.removed + change.removed, before.grown + change.grown
            layers[name] = LayerChange(removed, grown, change.density)
    return json.dumps({name: vars(change) for name, change in layers.items()}) if layers else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
