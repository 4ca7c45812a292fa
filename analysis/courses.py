"""Every run's course as arrays over (cell, epoch), with its references, its controls and its switches.

Column t of a matrix is epoch t + 1. What the history does not hold is NaN.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.facets import Grid, arrange, told_apart
from analysis.inference import Floats
from analysis.runs import RUNNING, diverged

Ints = NDArray[np.int64]
PRUNE, CORESET, DENSE = 0, 1, 2
REFERENCES = ("prune_only", "coreset_only", "dense")
COUNTS = ("samples_removed", "samples_added", "weights_removed", "weights_grown")
SPLITS = {"val": "validation", "test": "test"}
"""Which accuracy is judged, in words."""
MEASURED = ("lost_support", "shock", "class_imbalance")
_SHARED = {"prune_only": ["facet", "prune_rate"], "coreset_only": ["facet", "coreset_ratio"], "dense": ["facet"]}
_WANTS = {"joint": (PRUNE, CORESET, DENSE), "prune_only": (DENSE,), "coreset_only": (DENSE,), "dense": ()}


@dataclass(frozen=True)
class Courses:
    """The runs that have a history, or will have one.

    cells: one row per run (cell_id, role, seed, prune_rate, coreset_ratio, and the facet's
    columns). accuracy_CT is of ``split``, the validation set where every run has one. filled_CT
    has missing epochs interpolated, smooth_CT is its running median of three epochs (the nearest
    three at both ends). finite_CT: whether an epoch has a loss, of any split, that is a number, or trains on nothing.
    last_C is the last epoch that the run reached, planned_C the one it goes on to: last_C of a run that is over.
    asked_C is the one it was to reach: beyond planned_C where it failed or was stopped.
    references_C3 are rows of the same-seed references by PRUNE, CORESET, DENSE; -1 is none.
    switches and periods are by group_C, the number of the run's experiment and schedule. treatment_C numbers what the
    seeds of a cell have in common.
    """

    cells: pd.DataFrame
    split: str
    accuracy_CT: Floats
    filled_CT: Floats
    smooth_CT: Floats
    loss_CT: Floats
    finite_CT: NDArray[np.bool_]
    dead_CT: Floats
    switch_CT: NDArray[np.bool_]
    counts: dict[str, Floats]
    measured: dict[str, Floats]
    layers: pd.Series
    last_C: Ints
    planned_C: Ints
    asked_C: Ints
    samples_C: Floats
    references_C3: Ints
    group_C: Ints
    treatment_C: Ints
    switches: tuple[tuple[int, ...], ...]
    periods: tuple[int, ...]

    @property
    def followed(self) -> NDArray[np.bool_]:
        """By run, whether it was evaluated in three epochs on end, or lasts for fewer: else its noise is unknown."""
        known = np.isfinite(self.accuracy_CT)
        on_end = (known[:, :-2] & known[:, 1:-1] & known[:, 2:]).any(axis=1)
        return on_end | (self.last_C < 3)

    @property
    def cut(self) -> NDArray[np.bool_]:
        """By run, whether it failed or was stopped before its end: what it would have done then is not known."""
        return self.planned_C < self.asked_C

    def switched(self, epoch: int) -> NDArray[np.bool_]:
        """By run, whether it has a switch in ``epoch``, or no row of it: those of a group may differ."""
        return self.switch_CT[:, epoch - 1] | ~self.finite_CT[:, epoch - 1]

    @property
    def epochs(self) -> int:
        """The longest run's number of epochs."""
        return int(self.accuracy_CT.shape[1])


def courses(runs: pd.DataFrame, history: pd.DataFrame, select_every: int | None = None) -> Courses:
    """Validated tables as courses; ``select_every`` is R where neither table tells it."""
    grid = arrange(runs)
    cells = _cells(grid, history)
    row_H = pd.Index(cells["cell_id"]).get_indexer(pd.Index(history["cell_id"]))
    history, row_H = history[row_H >= 0], row_H[row_H >= 0]
    epoch_H = history["epoch"].to_numpy(dtype=np.int64)
    last_C, planned_C, asked_C = _last(cells, row_H, epoch_H)
    shape = len(cells), int(max(epoch_H.max(initial=1), planned_C.max(initial=1)))
    matrix = partial(_matrix, shape, history, row_H, epoch_H)
    split = _split(history, row_H, len(cells))
    accuracy_CT, switch_CT = matrix(f"accuracy_{split}"), matrix("switch") == 1
    filled_CT, group_C = filled(accuracy_CT, last_C), _groups(grid, cells)
    found = [_switches(switch_CT[g], _told(cells[g], select_every)) for g in _members(group_C)]
    return Courses(
        cells,
        split,
        accuracy_CT,
        filled_CT,
        smooth(filled_CT, last_C),
        matrix("loss_train"),
        _finite(matrix),
        matrix("dead_layers"),
        switch_CT,
        {name: matrix(name) for name in COUNTS},
        {name: matrix(name) for name in MEASURED if name in history},
        _layers(history, row_H, epoch_H),
        last_C,
        planned_C,
        asked_C,
        _samples(cells, split),
        _references(grid, cells),
        group_C,
        _treatments(cells),
        tuple(epochs for epochs, _ in found),
        tuple(period for _, period in found),
    )


def _matrix(shape: tuple[int, int], history: pd.DataFrame, row_H: Ints, epoch_H: Ints, column: str) -> Floats:
    """A column by (run, epoch); NaN where the history has none."""
    out = np.full(shape, np.nan)
    if column in history:
        out[row_H, epoch_H - 1] = history[column].to_numpy(dtype=np.float64, na_value=np.nan)
    return out


def matrices(c: Courses, history: pd.DataFrame, columns: Iterable[str]) -> dict[str, Floats]:
    """Further columns of the history by (run, epoch); NaN throughout where there is no such column."""
    row_H = pd.Index(c.cells["cell_id"]).get_indexer(pd.Index(history["cell_id"]))
    known, epoch_H = row_H >= 0, history["epoch"].to_numpy(dtype=np.int64)
    of_runs = history[known], row_H[known], epoch_H[known]
    return {name: _matrix(c.accuracy_CT.shape, *of_runs, name) for name in columns}


def median(values: Floats) -> Floats:
    """Median along the last axis of what is not NaN; NaN of nothing. Quick for many short rows."""
    if not values.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    ordered = np.sort(values, axis=-1)
    n = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low, high = (np.take_along_axis(ordered, np.maximum(k, 0), axis=-1) for k in ((n - 1) // 2, n // 2 - (n == 0)))
    return np.asarray(np.where(n > 0, (low + high) / 2, np.nan)[..., 0])


def filled(accuracy_CT: Floats, last_C: Ints) -> Floats:
    """Missing epochs interpolated between their neighbours, the last value held up to the run's last epoch."""
    out = accuracy_CT.copy()
    at = np.arange(accuracy_CT.shape[1])
    within = at < last_C[:, None]
    for row in np.flatnonzero((np.isnan(accuracy_CT) & within).any(axis=1)).tolist():
        known = np.flatnonzero(np.isfinite(accuracy_CT[row]))
        if known.size:
            out[row, known[0] : last_C[row]] = np.interp(at[known[0] : last_C[row]], known, accuracy_CT[row, known])
    return np.where(within, out, np.nan)


def smooth(filled_CT: Floats, last_C: Ints) -> Floats:
    """Running median of three epochs; an end takes its nearest three."""
    cells, epochs = filled_CT.shape
    wide = np.full((cells, epochs + 2), np.nan)
    wide[:, 1:-1] = filled_CT
    rows = np.arange(cells)
    wide[rows, last_C + 1] = wide[rows, np.maximum(last_C - 2, 0)]
    wide[:, 0] = wide[:, min(3, epochs)]
    out = median(np.stack([wide[:, :-2], wide[:, 1:-1], wide[:, 2:]], axis=-1))
    return np.where(np.isnan(filled_CT), np.nan, out)


def _cells(grid: Grid, history: pd.DataFrame) -> pd.DataFrame:
    """One row per run that has a history or will have one, under the first facet it belongs to."""
    there = grid.cells["cell_id"].isin(history["cell_id"].unique()) | (grid.cells["status"] == RUNNING)
    known = grid.cells[there]
    own = known.drop_duplicates("cell_id").reset_index(drop=True)
    shown = grid.facets.loc[own["facet"], ["pruner", "selector"]].reset_index(drop=True)
    named = own.assign(pruner=shown["pruner"], selector=shown["selector"])
    named.loc[own["pruner"] == "none", "pruner"] = "none"
    named.loc[own["coreset_ratio"] == 1, "selector"] = "none"
    words = told_apart(grid.facets, [*grid.keys.experiment, *grid.keys.schedule])
    experiment = words.loc[own["facet"]].to_numpy()
    return named.assign(preservation=own["own_preservation"], experiment=experiment)


def _last(cells: pd.DataFrame, row_H: Ints, epoch_H: Ints) -> tuple[Ints, Ints, Ints]:
    """The planned last epoch, or the last one seen of a run that ended early or goes on; where that will end; and
    where it should have ended, which of a diverged run is where it did.
    """
    seen = np.zeros(len(cells), dtype=np.int64)
    np.maximum.at(seen, row_H, epoch_H)
    planned = cells["epochs"].to_numpy(dtype=np.float64, na_value=np.nan)
    finished, running = ((cells["status"] == status).to_numpy() for status in ("finished", RUNNING))
    whole = finished & (planned >= seen) & ~diverged(cells).to_numpy()
    last = np.where(whole, np.nan_to_num(planned), seen).astype(np.int64)
    going = np.where(running, np.nan_to_num(planned), last).astype(np.int64)
    asked = np.where(finished, last, np.fmax(planned, last)).astype(np.int64)
    return last, going, asked


def _split(history: pd.DataFrame, row_H: Ints, cells: int) -> str:
    if "accuracy_val" not in history:
        return "test"
    lacks = np.zeros(cells, dtype=bool)
    lacks[row_H] = True
    lacks[row_H[history["accuracy_val"].notna().to_numpy()]] = False
    return "test" if lacks.any() else "val"


def _groups(grid: Grid, cells: pd.DataFrame) -> Ints:
    fixed = grid.facets[[*grid.keys.experiment, *grid.keys.schedule]].astype("str").fillna("")
    number = pd.Series(fixed.groupby(list(fixed.columns), sort=True).ngroup(), index=grid.facets.index)
    return pd.factorize(number.loc[cells["facet"]], sort=True)[0].astype(np.int64)


def _finite(matrix: Callable[[str], Floats]) -> NDArray[np.bool_]:
    known = [np.isfinite(matrix(f"loss_{split}")) for split in ("train", "val", "test")]
    return np.asarray(np.logical_or.reduce([*known, matrix("coreset_size") == 0]), dtype=np.bool_)


def _treatments(cells: pd.DataFrame) -> Ints:
    named = cells[["facet", "role", "prune_rate", "coreset_ratio", "preservation"]].astype("str")
    return named.groupby(list(named.columns), sort=True, dropna=False).ngroup().to_numpy().astype(np.int64)


def _members(group_C: Ints) -> list[NDArray[np.bool_]]:
    """Of each group the runs in it."""
    return [group_C == g for g in range(int(group_C.max(initial=-1)) + 1)]


def _told(cells: pd.DataFrame, settings: int | None) -> int | None:
    """R as the runs table says it, else as the settings do."""
    if "select_every" not in cells:
        return settings
    every = pd.to_numeric(cells["select_every"], errors="coerce").dropna()
    return int(every.iloc[0]) if len(every) else settings


def _samples(cells: pd.DataFrame, split: str) -> Floats:
    """Samples of the split that accuracies are of; NaN where not known."""
    if f"n_{split}" not in cells:
        return np.full(len(cells), np.nan)
    return cells[f"n_{split}"].to_numpy(dtype=np.float64, na_value=np.nan)


def _switches(switch_CT: NDArray[np.bool_], told: int | None) -> tuple[tuple[int, ...], int]:
    """The union over cells completed by the period R, and R: as told, else the commonest gap within a cell."""
    epochs = switch_CT.shape[1]
    union = np.flatnonzero(switch_CT.any(axis=0)) + 1
    if not union.size:
        return (), told or 0
    row, at = np.nonzero(switch_CT)
    gaps = np.diff(at)[np.diff(row) == 0]
    period = told or (int(np.bincount(gaps).argmax()) if gaps.size else int(epochs - union[0] + 1))
    residue = int(np.bincount(union % period).argmax())
    first = int(union[union % period == residue][0])
    return tuple(sorted({*union.tolist(), *range(first, epochs + 1, period)})), period


def _references(grid: Grid, cells: pd.DataFrame) -> Ints:
    """For each run the row of its references; of a single treatment the dense run is the only one."""
    number = pd.Series(np.arange(len(cells)), index=cells["cell_id"])
    known = grid.cells[grid.cells["cell_id"].isin(number.index)]
    wants = np.array([[k in _WANTS[role] for k in range(len(REFERENCES))] for role in cells["role"]], dtype=bool)
    out = np.full((len(cells), len(REFERENCES)), -1, dtype=np.int64)
    for k, role in enumerate(REFERENCES):
        on = [*_SHARED[role], "seed"]
        right = known.loc[known["role"] == role, [*on, "cell_id"]].drop_duplicates(on)
        found = cells[on].merge(right, on=on, how="left")["cell_id"]
        rows = number.reindex(found).to_numpy(dtype=np.float64)
        out[:, k] = np.where(wants.reshape(len(cells), -1)[:, k], np.nan_to_num(rows, nan=-1), -1)
    return out


def _layers(history: pd.DataFrame, row_H: Ints, epoch_H: Ints) -> pd.Series:
    """The JSON of each layer's changes by (row, epoch), where there is any."""
    if "layers" not in history:
        return pd.Series([], dtype="object", index=pd.MultiIndex.from_arrays([[], []]))
    told = history["layers"].notna().to_numpy()
    index = pd.MultiIndex.from_arrays([row_H[told], epoch_H[told]])
    return pd.Series(history["layers"].to_numpy(dtype=object)[told], index=index)
