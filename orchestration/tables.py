"""The fold from the store to the runs and history tables (columns: README, "What a sweep leaves behind")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.runs import RUNNING
from core.config import CellConfig, as_dict, flatten
from core.flops import paper_relative
from orchestration.files import write_atomically
from orchestration.sweep import Sweep
from sweeps.cells import Cell, applies, swept_fields

COST = ("flops_dense", "flops_sparse", "flops_selection", "flops_evaluation", "seconds")
LAST = ("accuracy_test", "accuracy_val", "accuracy_worst_class", "loss_test")
NAMED = ("data", "model", "pruner", "selector", "preservation")
PER_CLASS = ("accuracy_class", "lost_support_class")
"""Lists of one number per class in the store's rows."""
NOT_IN_HISTORY = (*PER_CLASS, "flops_full", "time")


def tables(sweep: Sweep) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs table (one row per cell that finished, failed or was stopped) and the history table (one row per cell
    and epoch); of a cell that did not finish what it cost and its epochs so far, no accuracy of its end.
    """
    runs: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    extra = further_fields(sweep)
    for cell in sweep.cells.cells:
        found = sweep.history(cell)
        if found is not None:
            rows, diverged = found
            runs.append({**describe(sweep, cell, extra), **_outcome(sweep, cell, rows, diverged)})
            history += [_history_row(cell, row) for row in rows]
        elif (failure := sweep.failure(cell.cell_id)) is not None:
            rows = sweep.rows(cell.cell_id)
            told = {"status": "stopped" if failure.rule else "failed", "reason": failure.reason}
            runs.append({**describe(sweep, cell, extra), **told, **(costs(cell.config, rows) if rows else {})})
            history += [_history_row(cell, row) for row in rows]
    frame = pd.DataFrame(runs, columns=_columns(runs))
    for field in extra if runs else ():
        if any(isinstance(value, str) for value in frame[field]):  # 100 beside "per_interval: 5" or "null"
            frame[field] = frame[field].map(str, na_action="ignore")
    return frame, pd.DataFrame(history)


@dataclass(frozen=True)
class Course:
    """What the store holds of a cell: its rows so far, whether they are all, and whether it diverged."""

    rows: Sequence[Mapping[str, Any]]
    over: bool
    diverged: bool


def course(sweep: Sweep, cell: Cell) -> Course:
    """Read a cell from the store."""
    found = sweep.history(cell)
    if found is not None:
        return Course(found[0], over=True, diverged=found[1])
    return Course(sweep.rows(cell.cell_id), over=False, diverged=False)


def tables_so_far(
    sweep: Sweep, known: Iterable[tuple[Cell, Course]], extra: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of some cells of a sweep under way; those that are not over have the status ``running``.

    ``extra``: the sweep's ``further_fields``.
    """
    runs: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for cell, has in known:
        told = _outcome(sweep, cell, has.rows, has.diverged) if has.over else {"status": RUNNING, "accuracy_test": None}
        runs.append({**describe(sweep, cell, extra), **told})
        history += [_history_row(cell, row) for row in has.rows]
    return pd.DataFrame(runs), pd.DataFrame(history)


def further_fields(sweep: Sweep) -> tuple[str, ...]:
    """The swept fields that the tables have no column of their own for."""
    known = _known(sweep)
    return tuple(field for field in swept_fields(cell.config for cell in sweep.cells.cells) if field not in known)


def write_tables(sweep: Sweep) -> tuple[int, int]:
    """Write runs.parquet and history.parquet into the sweep's folder. Returns their numbers of rows."""
    runs, history = tables(sweep)
    for name, frame in (("runs", runs), ("history", history)):
        write_atomically(sweep.folder / f"{name}.parquet", frame.to_parquet(index=False))
    return len(runs), len(history)


def describe(sweep: Sweep, cell: Cell, extra: Sequence[str]) -> dict[str, Any]:
    """The columns that the configuration decides. A further swept field is null where it does not act."""
    config = cell.config
    flat = flatten(as_dict(config, defaults=True)) | {"warmup_epochs": sweep.cells.own_warmup(config)}
    row = {"cell_id": cell.cell_id, "sweep": sweep.spec.name, "seed": config.seed, "epochs": config.epochs}
    row |= {kind: flat[f"{kind}.name"] for kind in NAMED}
    row |= {"prune_rate": config.prune_rate, "fc_prune_rate": config.fc_prune_rate}
    row |= {"coreset_ratio": config.coreset_ratio, "chance": sweep.bundle(config).chance}
    row |= {"branched_from": cell.branched_from} if cell.branched_from else {}
    row |= {"n_val": len(sweep.bundle(config).val), "n_test": len(sweep.bundle(config).test)}
    return row | {field: _acting(flat.get(field)) if applies(config, field) else None for field in extra}


def _history_row(cell: Cell, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the store with its lists spread over a column per class."""
    lists = {f"{name}_{k}": value for name in PER_CLASS for k, value in enumerate(row.get(name) or ())}
    return {"cell_id": cell.cell_id, **_without(row, NOT_IN_HISTORY), **lists}


def _acting(value: Any) -> Any:
    """A null that acts (``pruner.start: null``) is a value of its own; a null in the table matches anything."""
    return "null" if value is None else value


def _outcome(sweep: Sweep, cell: Cell, rows: Sequence[Mapping[str, Any]], diverged: bool) -> dict[str, Any]:
    last = rows[-1]
    outcome: dict[str, Any] = {"status": "finished", "reason": "diverged" if diverged else None}
    outcome |= {name: last[name] for name in LAST}
    outcome |= {f"accuracy_class_{k}": accuracy for k, accuracy in enumerate(last["accuracy_class"])}
    outcome |= costs(cell.config, rows)
    if diverged:
        accuracies = [name for name in outcome if name.startswith("accuracy_") and outcome[name] is not None]
        outcome |= dict.fromkeys(accuracies, sweep.bundle(cell.config).chance)
    return outcome


def costs(config: CellConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The cell's ledgers along its chain, as if it had run alone, up to the last of ``rows``."""
    *_, last = running_costs(config, rows)
    return last


def running_costs(config: CellConfig, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, float]]:
    """``costs`` up to each of ``rows``."""
    paper = paper_relative(config.coreset_ratio, config.prune_rate)
    total = dict.fromkeys(COST, 0.0)
    for row in rows:
        total = {name: total[name] + row[name] for name in COST}
        relative = (total["flops_sparse"] + total["flops_selection"]) / (row["flops_full"] * config.epochs)
        yield {**total, "flops_relative": relative, "flops_paper": paper}


def _columns(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column of the schema, even where no cell finished and so none has a value."""
    return list(dict.fromkeys([name for row in runs for name in row] + [*LAST, *COST, "flops_relative", "flops_paper"]))


def totals(sweep: Sweep) -> dict[str, float]:
    """What the cells have cost: as if each had run alone, and executed, with every shared epoch once.

    Of a cell that was cut off by a budget or Ctrl-C, alone too counts no epoch that another one has.
    """
    alone: dict[str, float] = {"flops_dense": 0.0, "flops_evaluation": 0.0, "seconds": 0.0}
    executed = dict(alone)
    seen: set[tuple[str, int]] = set()
    cells = sweep.cells.cells
    over = {one.cell_id for one in cells if sweep.finished(one) or sweep.failure(one.cell_id) is not None}
    for cell in sorted(cells, key=lambda one: one.cell_id not in over):
        rows = course(sweep, cell).rows
        stages = {epoch: s.stage for s in sweep.chains[cell.cell_id] for epoch in range(s.first, s.last + 1)}
        by_state = {(stages[row["epoch"]], row["epoch"]): row for row in rows}
        new = [row for state, row in by_state.items() if state not in seen]
        for name in alone:
            alone[name] += sum(row[name] for row in (rows if cell.cell_id in over else new))
            executed[name] += sum(row[name] for row in new)
        seen.update(by_state)
    return {f"alone/{name}": cost for name, cost in alone.items()} | {
        f"executed/{name}": cost for name, cost in executed.items()
    }


def _known(sweep: Sweep) -> frozenset[str]:
    """Fields with a column of their own, and the warm-up where it only follows from the coreset ratio."""
    derived = {"warmup_epochs"} if all(cell.warmup_epochs is None for cell in sweep.spec.listed) else set()
    named = {f"{kind}.name" for kind in NAMED}
    return frozenset(named | derived | {"seed", "epochs", "prune_rate", "fc_prune_rate", "coreset_ratio"})


def _without(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in names}
