"""Why an event has its kind, in one line."""

import math

import numpy as np

from analysis.events import Event

TOLD = 0.01
"""What a control lost itself, from which on it is told."""


def reason(event: Event) -> str:
    """One sentence or two: what was lost, and what tells whose loss it is."""
    why = (_open(event),) if event.waits else (_why(event), _rest(event))
    return " ".join(filter(None, (_lost(event), *why)))


def _lost(e: Event) -> str:
    if e.kind == "divergence":
        return f"In epoch {e.epoch} the loss was not finite or exploded."
    if e.kind == "layer_collapse" and not math.isfinite(e.threshold):
        return f"From epoch {e.epoch} on a layer had no live weight."
    if e.never_launched:
        told = "it has not left chance, nor had it before"
        return f"Never launched: since its first joint removal in epoch {e.epoch} {told}."
    return (
        f"At the switch of epoch {e.epoch} accuracy fell {_points(e.drop)} below its expected course "
        f"({_percent(e.trough)} instead of {_percent(e.expected)} %, epoch {e.trough_epoch})."
    )


def _why(e: Event) -> str:
    why = {
        "transient": f"{_share(e.recovery)} of it was back by epoch {e.horizon}.",
        "layer_collapse": "A layer had no live weight in the window." if math.isfinite(e.threshold) else "",
        "single_loss": _single(e),
        "sparse_capacity": f"{_controls(e)}; {_nothing(e)}, so nothing was lost twice.",
        "critical_double_loss": f"{_lasting(e)}. {_controls(e)}, and {_both(e)} were removed in the window.",
        "unattributed": _unattributed(e),
    }
    return why.get(e.kind, "")


def _rest(e: Event) -> str:
    return "It ended too soon after that: whether the loss lasts is not known." if e.censored else ""


def _open(e: Event) -> str:
    whose = {"run": "the run", "prune_only": "its prune-only control", "coreset_only": "its coreset-only control"}
    who = ", ".join(whose.get(name, "its dense reference") for name in e.waits)
    return f"Not settled: epoch {e.horizon} is still to be reached by {who}."


def _lasting(e: Event) -> str:
    lasted = "It was not back when the run ended" if e.censored else "It lasted"
    if not math.isfinite(e.recovery):
        return lasted
    told = "further down" if round(100 * e.recovery) < 0 else f"{_share(abs(e.recovery))} back"
    return f"{lasted} ({told} by epoch {e.horizon})"


def _single(e: Event) -> str:
    who = {"prune": "prune-only", "coreset": "coreset-only"}.get(e.cause, "")
    if e.role != "joint":
        return f"It is the {who} run's own: {_lasting(e)[0].lower()}{_lasting(e)[1:]}."
    lost = e.control_drop.get(f"{e.cause}_only", math.nan)
    bound = "half of it" if e.excess <= e.drop / 2 else f"the {_points(e.threshold)} that make an event"
    own = f"only {_points(e.excess)} are the joint cell's own, no more than {bound}"
    return f"The {who} control lost {_points(lost)} itself; {own}."


def _controls(e: Event) -> str:
    """What the control that lost more lost itself, where that is a point or more."""
    name, most = max(e.control_drop.items(), key=lambda one: np.nan_to_num(one[1]), default=("", 0.0))
    if not most >= TOLD:
        return "Neither control lost it"
    return f"Its {name.replace('_', '-')} control lost {_points(most)} itself, so {_points(e.excess)} are its own"


def _nothing(e: Event) -> str:
    return "no weights were removed in the window" if e.weights_removed == 0 else "no samples left in the window"


def _both(e: Event) -> str:
    samples = "samples" if math.isnan(e.samples_removed) else f"{e.samples_removed:,.0f} samples"
    weights = "weights" if math.isnan(e.weights_removed) else f"{e.weights_removed:,.0f} weights"
    unknown = " (counts unknown)" if math.isnan(e.samples_removed + e.weights_removed) else ""
    return f"{samples} and {weights}{unknown}"


def _unattributed(e: Event) -> str:
    if e.add:
        return f"Whose loss it is cannot be told: add or rerun {' and '.join(e.add)}."
    return "It is a run without treatment: neither pruning nor a coreset can have caused it."


def _points(fraction: float) -> str:
    return f"{100 * fraction:.1f} points".replace("-", "−")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _share(fraction: float) -> str:
    """Rounded down: just under half is not half, which is where an event stops to last."""
    return f"{np.floor(100 * fraction + 1e-9):.0f} %"
