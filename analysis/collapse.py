"""Collapse events of single runs: what fell at which switch, whether it came back, and what took it away.

A joint cell's lasting loss that neither control shows, with weights and samples both removed in
the window, is only *suspected* to be a critical double-loss: training the counterfactual arms is
what confirms or refutes it.
"""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.courses import CORESET, COUNTS, DENSE, MEASURED, PRUNE, REFERENCES, Courses, Ints, courses
from analysis.dips import Detection, Dips, find_dips
from analysis.events import CENSORED, KINDS, OPEN, Event, Kind
from analysis.inference import Floats
from analysis.reasons import reason
from analysis.runs import diverged

EXPLODED = 10.0  # times the loss of a uniform guess
WAITS = ("run", *REFERENCES)
OPTIONAL = {
    ("lost_support", "shock", "class_imbalance"): "events carry none; a grid's support_samples, above 0, measures them",
    ("samples_removed",): "a loss of samples is assumed where a coreset changed",
    ("weights_removed",): "a loss of weights is assumed in every window",
    ("dead_layers",): "layer collapse cannot be told",
    ("loss_train",): "a loss that explodes without becoming infinite goes unseen",
}
"""Columns of the history, and what is lost where one is missing."""


def collapse_events(runs: pd.DataFrame, history: pd.DataFrame, settings: Detection | None = None) -> tuple[Event, ...]:
    """Every event of every run, ordered by kind (gravest first), drop and cell.

    ``runs`` and ``history`` are validated tables; ``settings`` the thresholds.
    """
    if history.empty:
        return ()
    settings = settings or Detection()
    return events_of(courses(runs, history, settings.select_every), settings)


def events_of(c: Courses, settings: Detection) -> tuple[Event, ...]:
    """The events of courses that are arranged already."""
    broken, dead = _divergence(c), _first(c.dead_CT > 0)
    dips = find_dips(c, settings)
    ended = broken[dips.row]
    keep = (ended == 0) | (dips.horizon < ended)
    rows = np.flatnonzero(keep)
    kinds, causes, excess = _kinds(c, dips, settings)
    found = [_event(c, dips, k, kinds[k], causes[k], float(excess[k]), settings) for k in rows.tolist()]
    found += [_sudden(c, int(row), int(broken[row]), "divergence") for row in np.flatnonzero(broken)]
    seen = {(e.cell_id, e.kind) for e in found}
    silent = [row for row in np.flatnonzero(dead) if (c.cells["cell_id"].iloc[row], "layer_collapse") not in seen]
    found += [_sudden(c, int(row), int(dead[row]), "layer_collapse") for row in silent]
    order = list(KINDS)
    ordered = sorted(found, key=lambda e: (order.index(e.kind), -_number(e.drop), e.cell_id, e.epoch))
    return _with_confidence(ordered, c)


def notes(history: pd.DataFrame, runs: pd.DataFrame) -> tuple[str, ...]:
    """What the detection lacks for want of a column, in words."""
    missing = [(", ".join(name for name in names if name not in history), lost) for names, lost in OPTIONAL.items()]
    absent = [f"No column {names} in the history: {lost}." for names, lost in missing if names]
    split = "val" if "accuracy_val" in history and history["accuracy_val"].notna().any() else "test"
    if f"n_{split}" not in runs:
        absent.append(f"Column n_{split} is missing: the noise of an accuracy has no lower bound.")
    return tuple(absent)


def _divergence(c: Courses) -> Ints:
    """The epoch in which a run's loss was not finite or exploded, never to be below a uniform guess's again; else 0.

    Of a run that is said to have diverged and has no infinite loss, the one after its last loss.
    """
    chance = c.cells["chance"].to_numpy(dtype=np.float64, na_value=np.nan)
    uniform = -np.log(np.where((chance > 0) & (chance < 1), chance, np.nan))
    worse = np.isinf(c.loss_CT) | (c.loss_CT > EXPLODED * uniform[:, None])
    better_later = np.logical_or.accumulate((c.loss_CT < uniform[:, None])[:, ::-1], axis=1)[:, ::-1]
    exploded = _first(worse & ~better_later)
    last_loss = c.epochs - c.finite_CT[:, ::-1].argmax(axis=1)
    ended = np.where(c.finite_CT.any(axis=1), np.minimum(last_loss + 1, c.last_C), c.last_C)
    return np.where(diverged(c.cells).to_numpy() & (exploded == 0), ended, exploded)


def _first(true_CT: NDArray[np.bool_]) -> Ints:
    """The first epoch of each row that holds; 0 where none does."""
    return np.where(true_CT.any(axis=1), true_CT.argmax(axis=1) + 1, 0).astype(np.int64)


def _kinds(c: Courses, dips: Dips, settings: Detection) -> tuple[list[Kind], list[str], Floats]:
    """Kind, cause and excess of each dip."""
    role = c.cells["role"].to_numpy()[dips.row]
    joint = role == "joint"
    lost = np.where(joint[:, None], dips.loss_E2, 0.0)
    unknown = joint & np.isnan(lost).any(axis=1)
    worst = np.fmax(np.fmax(lost[:, PRUNE], lost[:, CORESET]), 0.0)
    worst = np.where(joint & np.isnan(lost).all(axis=1), np.nan, worst)
    excess = dips.drop - worst
    with np.errstate(invalid="ignore"):
        own = (excess > dips.threshold) & (excess > dips.drop / 2)
    shared = joint & ~own & np.isfinite(worst)
    by = np.where(np.nan_to_num(lost[:, PRUNE], nan=-1) >= np.nan_to_num(lost[:, CORESET], nan=-1), "prune", "coreset")
    cause = np.where(shared, by, np.select([role == "prune_only", role == "coreset_only"], ["prune", "coreset"], ""))
    back = (dips.recovery >= settings.recovered) & ~dips.stuck
    died = np.array(
        [_died(c, int(r), int(s), int(h)) for r, s, h in zip(dips.row, dips.epoch, dips.horizon, strict=True)]
    )
    taken = _removed(c, dips, "samples_removed"), _removed(c, dips, "weights_removed")
    single = (taken[0] == 0) | (taken[1] == 0)
    conditions = [back, died.astype(bool), shared | (cause != "") & ~joint, ~joint | unknown, single]
    names = ["transient", "layer_collapse", "single_loss", "unattributed", "sparse_capacity"]
    kinds = np.select(conditions, names, "critical_double_loss").tolist()
    return kinds, np.where(np.array(kinds) == "single_loss", cause, "").tolist(), excess


def _died(c: Courses, row: int, epoch: int, horizon: int) -> bool:
    """Whether a layer lost its last weight from the switch to the horizon: one that was dead before explains no dip."""
    before = c.dead_CT[row, epoch - 2] if epoch > 1 else 0
    return bool((c.dead_CT[row, epoch - 1 : horizon] > np.nan_to_num(before)).any())


def _removed(c: Courses, dips: Dips, name: str) -> Floats:
    """A count over the R epochs from each switch; NaN where an epoch's count is unknown, unless others are above 0."""
    out = np.full(len(dips.row), np.nan)
    for k, (row, epoch) in enumerate(zip(dips.row.tolist(), dips.epoch.tolist(), strict=True)):
        out[k] = _count(c, row, epoch, name)
    return out


def _count(c: Courses, row: int, epoch: int, name: str) -> float:
    period = c.periods[int(c.group_C[row])]
    window = c.counts[name][row, epoch - 1 : min(epoch - 1 + period, int(c.last_C[row]))]
    known = np.isfinite(window)
    total = float(np.nansum(window))
    return total if known.all() or total > 0 else math.nan


def _event(c: Courses, dips: Dips, k: int, kind: Kind, cause: str, excess: float, settings: Detection) -> Event:
    row, epoch = int(dips.row[k]), int(dips.epoch[k])
    censored = bool(dips.censored[k])
    waits = tuple(np.array(WAITS)[dips.open_E4[k]].tolist())
    settled = CENSORED if censored else "suspected" if kind == "critical_double_loss" else ""
    noise, drop = float(dips.noise[k]), float(dips.drop[k])
    event = replace(
        _blank(c, row, epoch, kind),
        status=OPEN if waits else settled,
        cause=cause,
        before=float(dips.before[k]),
        expected=float(dips.expected[k]),
        trough=float(dips.trough[k]),
        trough_epoch=int(dips.trough_epoch[k]),
        drop=drop,
        excess=excess,
        noise=noise,
        threshold=float(dips.threshold[k]),
        z=drop / noise if noise > 0 else math.nan,
        recovery=float(dips.recovery[k]),
        horizon=int(dips.horizon[k]),
        censored=censored,
        never_launched=bool(dips.stuck[k]),
        control_drop=_control_drop(c, row, dips.loss_E2[k]),
        add=_missing(c, row, dips.loss_E2[k]),
        waits=waits,
    )
    return replace(event, reason=reason(event))


def _sudden(c: Courses, row: int, epoch: int, kind: Kind) -> Event:
    """A divergence, or a dead layer without a dip: told by the loss and the masks, not by a gap."""
    before = c.accuracy_CT[row, max(epoch - 4, 0) : epoch - 1]
    level = float(np.nanmedian(before)) if np.isfinite(before).any() else math.nan
    trough = float(c.accuracy_CT[row, epoch - 1])
    if kind == "divergence":
        trough = float(c.cells["chance"].iloc[row])
    event = replace(
        _blank(c, row, epoch, kind),
        before=level,
        expected=level,
        trough=trough,
        drop=level - trough,
        horizon=int(c.last_C[row]),
    )
    return replace(event, reason=reason(event))


def _blank(c: Courses, row: int, epoch: int, kind: Kind) -> Event:
    """The cell, the counts and the measurements at ``epoch``; no level yet."""
    cell = c.cells.iloc[row]
    measured: dict[str, Any] = {
        name: float(c.measured[name][row, epoch - 1]) if name in c.measured else math.nan for name in MEASURED
    }
    counts: dict[str, Any] = {name: _count(c, row, epoch, name) for name in COUNTS}
    said: dict[str, Any] = {
        name: str(cell[name]) for name in ("role", "pruner", "selector", "preservation", "experiment")
    }
    said |= dict.fromkeys(("before", "expected", "trough", "drop", "excess", "noise", "threshold"), math.nan)
    return Event(
        **said,
        **counts,
        **measured,
        event_id=f"{cell['cell_id']}-{epoch}",
        cell_id=str(cell["cell_id"]),
        epoch=epoch,
        kind=kind,
        status="",
        cause="",
        prune_rate=float(cell["prune_rate"]),
        coreset_ratio=float(cell["coreset_ratio"]),
        seed=int(cell["seed"]),
        accuracy=c.split,
        trough_epoch=epoch,
        z=math.nan,
        recovery=math.nan,
        horizon=epoch,
        censored=False,
        never_launched=False,
        layers=_layer_changes(c, row, epoch),
        controls=_controls(c, row),
        control_drop={},
        add=_missing(c, row, np.zeros(2)),
        confidence=math.nan,
        reason="",
    )


def _controls(c: Courses, row: int) -> dict[str, str]:
    names = {PRUNE: "prune_only", CORESET: "coreset_only", DENSE: "dense"}
    found = {name: int(c.references_C3[row, k]) for k, name in names.items()}
    return {name: str(c.cells["cell_id"].iloc[at]) for name, at in found.items() if at >= 0}


def _control_drop(c: Courses, row: int, loss_2: Floats) -> dict[str, float]:
    if c.cells["role"].iloc[row] != "joint":
        return {}
    return {"prune_only": float(loss_2[PRUNE]), "coreset_only": float(loss_2[CORESET])}


def _missing(c: Courses, row: int, loss_2: Floats) -> tuple[str, ...]:
    """The cells that would tell whose loss it is: controls that are not there, or were cut before the horizon."""
    cell = c.cells.iloc[row]
    if cell["role"] != "joint":
        return ()
    wanted = {PRUNE: (cell["prune_rate"], 1.0), CORESET: (0.0, cell["coreset_ratio"])}
    control = {k: int(c.references_C3[row, k]) for k in wanted}
    absent = [at for k, at in wanted.items() if control[k] < 0 or (np.isnan(loss_2[k]) and c.cut[control[k]])]
    return tuple(f"({p:g}, {a:g}) with seed {cell['seed']}" for p, a in absent)


def _layer_changes(c: Courses, row: int, epoch: int) -> dict[str, dict[str, float]]:
    """Per layer the weights removed and grown in the R epochs from the switch, and its last density."""
    total: dict[str, dict[str, float]] = {}
    for at in range(epoch, epoch + max(c.periods[int(c.group_C[row])], 1)):
        text = c.layers.get((row, at))
        if text is None:
            continue
        for name, change in json.loads(text).items():
            so_far = total.get(name, {"removed": 0, "grown": 0})
            counts = {key: so_far[key] + change.get(key, 0) for key in ("removed", "grown")}
            total[name] = counts | {"density": change.get("density", math.nan)}
    return total


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _with_confidence(events: list[Event], c: Courses) -> tuple[Event, ...]:
    """Each event with the share of its cell's seeds that show its kind, of those that ran to the end or show any."""
    cell = pd.Series(c.treatment_C, index=c.cells["cell_id"])
    shown = {(e.cell_id, e.kind) for e in events}
    seeds = cell[~c.cut | cell.index.isin([cell_id for cell_id, _ in shown])].value_counts()
    count = pd.Series([(cell[cell_id], kind) for cell_id, kind in shown], dtype="object").value_counts()
    return tuple(
        replace(e, confidence=float(count[(cell[e.cell_id], e.kind)] / seeds[cell[e.cell_id]])) for e in events
    )
