"""Confirm a collapse event: fork four arms from the checkpoint before its switch, and judge them.

A run of an arm that is in the event's file is not run again; the file is written after every run, whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from analysis.confirmations import FOLDER, arms_of, from_record, verdict_record
from analysis.counterfactual import judge
from analysis.events import CENSORED
from analysis.events import FILE as EVENTS
from core.config import CellConfig, as_dict, flatten
from core.intervention import ARMS, Fork, InterventionError, fork
from orchestration.errors import UsageError
from orchestration.files import write_atomically
from orchestration.past import rows_so_far
from orchestration.sweep import Sweep
from orchestration.threads import torch_threads
from sweeps.cells import Cell
from sweeps.stages import Chain

if TYPE_CHECKING:
    from orchestration.arms import Run, Work

KIND = "critical_double_loss"
OWN = ("both", 0)
"""The arm and the draws that the run itself had."""

Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """A switch of a cell that is to be confirmed."""

    cell: Cell
    fork: Fork

    @property
    def name(self) -> str:
        """``<cell_id>-<epoch>``."""
        return f"{self.cell.cell_id}-{self.fork.first}"


def named(sweep: Sweep, cell_id: str, epoch: int) -> Event:
    """The event of a cell of the sweep. Raises ``UsageError`` for a cell or switch that it does not have."""
    cells = {cell.cell_id: cell for cell in sweep.cells.cells}
    if cell_id not in cells:
        known = f"its {len(cells)} cells are in runs.parquet, such as {next(iter(cells))}"
        raise UsageError(f"{sweep.folder} has no cell {cell_id!r}; {known}")
    try:
        return Event(cells[cell_id], fork(cells[cell_id].config, epoch))
    except InterventionError as error:
        raise UsageError(f"event {cell_id}-{epoch}: {error}") from error


def chosen(
    names: Sequence[str], cell: str | None, epoch: int | None, *, everything: bool, limit: int | None
) -> list[tuple[str, int]] | None:
    """Cell and epoch of the events that a person names in one of three ways; ``None`` for all that are suspected.

    Raises ``UsageError`` for none or several ways, and for a name that is none.
    """
    if sum((bool(names), cell is not None or epoch is not None, everything)) != 1:
        raise UsageError("name the events in one way: CELL_ID-EPOCH, --cell with --epoch, or --all")
    if limit is not None and not everything:
        raise UsageError(f"--limit {limit} goes with --all only; leave it out, or give --all")
    if everything:
        return None
    if names:
        return [_parsed(name) for name in names]
    if cell is None or epoch is None:
        lacks = "--cell" if cell is None else "--epoch"
        raise UsageError(f"{lacks} is missing: --cell and --epoch name an event together")
    return [(cell, epoch)]


def _parsed(text: str) -> tuple[str, int]:
    cell_id, _, epoch = text.rpartition("-")
    if not cell_id or not epoch.isdecimal():
        raise UsageError(
            f"{text!r} names no event; write CELL_ID-EPOCH, such as 1f0c2a9be77d-10, or --cell and --epoch"
        )
    return cell_id, int(epoch)


def suspected(folder: Path, limit: int | None) -> list[tuple[str, int]]:
    """Cell and epoch of the suspected double losses in the folder's events, the deepest first, at most ``limit``.

    One that is confirmed or refuted already was suspected too: its arms are not run again unless more data orders
    are wanted.

    Raises ``UsageError`` when there is no such file, or another thing in it.
    """
    path = folder / EVENTS
    try:
        events = json.loads(path.read_bytes())
        chosen = [event for event in events if event["kind"] == KIND and event["status"] != CENSORED]
        chosen.sort(key=lambda event: -float(event.get("drop") or 0.0))
        return [(str(event["cell_id"]), int(event["epoch"])) for event in chosen[:limit]]
    except FileNotFoundError:
        raise UsageError(
            f"{folder} holds no {EVENTS}; swast analyze {folder} writes it, or name an event with --cell and --epoch"
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"{path} is no list of events ({error!r}); swast analyze {folder} writes it anew") from error


def confirm(sweep: Sweep, event: Event, orders: int, workers: int = 1) -> Iterator[tuple[Record, Run | None]]:
    """Run the arms that are not done yet. Yields the record after each, with the run, and once more when it is judged.

    The data orders are new ones: the event was found because the run fell in its own, which would count as if it had
    been drawn. In that one only ``both`` is trained, to see whether it repeats the run.

    Raises whatever training raises, ``StoreError``, and ``UsageError`` when the cell diverged before the switch.
    """
    from orchestration.arms import runs

    path = sweep.folder / FOLDER / f"{event.name}.json"
    chain = sweep.chains[event.cell.cell_id]
    record = _read(path, event, chain)
    done = {(run["arm"], run["seed"]) for run in record["runs"]}
    todo = [(arm, draws) for draws in range(1, orders + 1) for arm in ARMS if (arm, draws) not in done]
    todo += [] if record["own"] else [OWN]
    if todo:
        with torch_threads(sweep.need(event.cell.config).threads):
            work = _work(sweep, event)
            record["before"] = work.accuracy
            for run in runs(work, todo, workers):
                if (run["arm"], run["seed"]) == OWN:
                    record["own"] = run
                else:
                    record["runs"] = sorted([*record["runs"], run], key=lambda one: (one["seed"], one["arm"]))
                _write(path, record)
                yield record, run
        record["repeats"] = _repeats(record, rows_so_far(chain, sweep.store))
    record["verdict"] = verdict_record(judge(arms_of(record)))
    _write(path, record)
    yield record, None


def _work(sweep: Sweep, event: Event) -> Work:
    """The state before the switch, and what else the arms need."""
    from core.state import dump
    from orchestration.arms import Work, before

    config = event.cell.config
    need, bundle = sweep.need(config), sweep.bundle(config)
    chain, at = sweep.chains[event.cell.cell_id], bundle.to(need.device)
    trainer = before(config, chain, at, sweep.store, event.fork.first, need.device)
    accuracy = trainer.network.evaluate(at.test, at.num_classes, trainer.masking.evaluated()).accuracy
    return Work(config, event.fork, bundle, dump(trainer.state()), accuracy, need.device, need.threads)


def _read(path: Path, event: Event, chain: Chain) -> Record:
    """The record as far as it goes; a new one where there is none, or one of other arithmetic, code or horizon."""
    config = event.cell.config
    new: Record = {
        "cell_id": event.cell.cell_id,
        "epoch": event.fork.first,
        "last": event.fork.last,
        "horizon": event.fork.horizon,
        "key": chain[-1].stage,
    }
    shown = {"label": label(config)}
    try:
        found = json.loads(path.read_bytes())
        from_record(found)
        if {name: found[name] for name in new} == new:
            return {**found, **shown, "runs": [run for run in found["runs"] if run["seed"]], "own": found.get("own")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {**new, **shown, "before": None, "repeats": None, "runs": [], "own": None, "verdict": None}


def _write(path: Path, record: Record) -> None:
    write_atomically(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def _repeats(record: Record, stored: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether ``both`` with the run's own draws had the run's accuracies in the window; ``None``: none are stored."""
    factual = {row["epoch"]: row["accuracy_test"] for row in stored if row["accuracy_test"] is not None}
    window = [row for row in record["own"]["rows"] if row["epoch"] <= record["last"] and row["epoch"] in factual]
    return all(row["accuracy_test"] == factual[row["epoch"]] for row in window) if window else None


def label(cell: CellConfig) -> str:
    """A joint cell in words."""
    methods = f"{_method(cell.pruner)} × {_method(cell.selector)}"
    rates = f"prune rate {100 * cell.prune_rate:g} %, coreset ratio {100 * cell.coreset_ratio:g} %"
    return f"{methods}, {rates}, preservation {cell.preservation.name}, seed {cell.seed}"


def _method(method: Any) -> str:
    """``el2n (balanced=True)``: a plug-in with what differs from its defaults."""
    changed = flatten({name: value for name, value in as_dict(method).items() if name != "name"})
    told = ", ".join(f"{name}={value}" for name, value in changed.items())
    return f"{method.name} ({told})" if told else str(method.name)
