"""The confirmations that lie in a sweep's folder: one JSON file per event, with every arm's epochs.

    confirmations/<cell_id>-<epoch>.json
    {"cell_id", "epoch": the switch, "last": of its window, "horizon", "label": the cell in words, "before": accuracy at
     the fork, "runs": [{"arm", "seed", "diverged", "rows": [{"epoch", "accuracy_test", ...}]}], "own": the arm both in
     the run's own data order, "verdict": {...}}

Runs are the truth, the verdict is judged anew from them; the one in the file is for a reader of the file alone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.counterfactual import ARMS, Verdict, gaps, judge, trajectories
from analysis.events import Event

FOLDER = "confirmations"


@dataclass(frozen=True)
class Confirmation:
    """An event with its four arms. ``trajectories``: columns arm, epoch, n, mean, lo, hi, fractions."""

    cell_id: str
    epoch: int
    last: int
    horizon: int
    label: str
    before: float
    trajectories: pd.DataFrame
    verdict: Verdict

    @property
    def event(self) -> str:
        """The event's name, ``<cell_id>-<epoch>``."""
        return f"{self.cell_id}-{self.epoch}"

    @property
    def figure(self) -> str:
        """The name of its figure's files."""
        return f"confirmation-{self.event}"


def arms_of(record: Mapping[str, Any]) -> pd.DataFrame:
    """The record's runs as one frame: arm, seed (of the data order), and the columns of their rows.

    Without the run's own data order, 0: in that one it fell, and so it was chosen.
    """
    drawn = [run for run in record["runs"] if run["seed"]]
    rows = [{"arm": run["arm"], "seed": run["seed"], **row} for run in drawn for row in run["rows"]]
    return pd.DataFrame(rows, columns=None if rows else ["arm", "seed", "epoch", "accuracy_test"])


def from_record(record: Mapping[str, Any]) -> Confirmation:
    """A file's content as values.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` when it is not such a record.
    """
    arms = arms_of(record)
    if not set(arms["arm"]) <= set(ARMS):
        raise ValueError(f"arms {', '.join(sorted(set(arms['arm']) - set(ARMS)))} are none of {', '.join(ARMS)}")
    names = ("cell_id", "epoch", "last", "horizon", "label", "before")
    ended = arms.assign(epoch=arms["epoch"].astype("int64"), accuracy_test=arms["accuracy_test"].astype("float64"))
    whole = ended[ended["seed"].isin(gaps(ended).index)]  # drawn is what is judged: data orders with all arms
    shown = trajectories(ended if whole.empty else whole)
    return Confirmation(**{name: record[name] for name in names}, trajectories=shown, verdict=judge(ended))


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data, not-finite numbers as null."""
    plain = {"title": verdict.title, **asdict(verdict)}
    return {key: _finite(value) for key, value in plain.items()}


def read(folder: Path) -> tuple[tuple[Confirmation, ...], tuple[str, ...]]:
    """The confirmations of a sweep's folder that have a data order with all arms; a note for each unreadable file."""
    found, notes = [], []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            one = from_record(record) if record["runs"] else None
            found += [one] if one is not None and one.verdict.n else []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            notes.append(f"{FOLDER}/{path.name} is no record of a confirmation ({reason}): left out.")
    return tuple(found), tuple(notes)


def table(found: Iterable[Confirmation]) -> pd.DataFrame:
    """A row per confirmation: the event, its verdict, n, gaps and interaction with their intervals (fractions)."""
    return pd.DataFrame([_row(one) for one in found])


def _row(one: Confirmation) -> dict[str, Any]:
    verdict = one.verdict
    row: dict[str, Any] = {"event": one.event, "verdict": verdict.title, "n": verdict.n}
    row["orders_needed"] = verdict.needed
    for name, estimate in {**verdict.gaps, "interaction": verdict.interaction}.items():
        row |= {name: estimate.mean, f"{name}_lo": estimate.lo, f"{name}_hi": estimate.hi}
    return row | {"cell": one.label, "reason": verdict.reason}


def with_verdicts(events: Iterable[Event], found: Iterable[Confirmation]) -> tuple[Event, ...]:
    """Collapse events with the status that their confirmation gives them; the others as they are."""
    verdicts = {one.event: one.verdict for one in found}
    return tuple(
        replace(event, status=verdicts[event.event_id].title, confirmation=verdicts[event.event_id].numbers())
        if event.event_id in verdicts
        else event
        for event in events
    )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if value != value else value
