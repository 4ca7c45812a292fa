"""Which runs belong together: roles, variants, facets, and the controls of a joint cell.

A *facet* is everything that is held fixed over one (prune rate, coreset ratio) grid: experiment,
schedule, pruner variant, selector variant, preservation variant. Its grid holds its joint cells
and, as first row and column, the single treatments that are their controls:

* prune-only (p, 1): same experiment, schedule and pruner side; selector side ignored;
* coreset-only (0, a): same experiment, schedule and selector side; pruner side ignored, the
  control's own preservation shown, ``none`` preferred;
* dense (0, 1): same experiment and schedule.

A null in a key column means that the field does not act in that cell: it matches anything. One
null acts: a pruned run without a classifier rate prunes the classifier together with the rest.
"""

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.runs import RUNNING, diverged

Side = Literal["record", "axis", "pruner", "selector", "preservation", "schedule", "experiment"]
ROLES = ("dense", "prune_only", "coreset_only", "joint")
NULL = "null"  # a null that acts, as the orchestration too writes it
CELL = ["facet", "role", "prune_rate", "coreset_ratio"]

_NAMED: dict[str, Side] = {
    "cell_id": "record",
    "sweep": "record",
    "seed": "record",
    "status": "record",
    "reason": "record",
    "branched_from": "record",
    "chance": "record",
    "n_val": "record",
    "n_test": "record",
    "seconds": "record",
    "prune_rate": "axis",
    "coreset_ratio": "axis",
    "pruner": "pruner",
    "fc_prune_rate": "pruner",
    "scope": "pruner",
    "selector": "selector",
    "select_every": "schedule",
    "warmup_epochs": "schedule",
    "schedule": "schedule",
}
_PREFIXED: dict[str, Side] = {
    "accuracy_": "record",
    "loss_": "record",
    "flops_": "record",
    "seconds_": "record",
    "pruner.": "pruner",
    "selector.": "selector",
    "preservation": "preservation",
}


@dataclass(frozen=True)
class Keys:
    """The columns that tell facets apart, by side; each side starts with its name column."""

    experiment: tuple[str, ...]
    schedule: tuple[str, ...]
    pruner: tuple[str, ...]
    selector: tuple[str, ...]
    preservation: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """Every key column, the order in which facets are sorted."""
        variants = (*self.pruner, *self.selector, *self.preservation)
        return [*self.experiment, *self.schedule, *variants]

    @property
    def shown(self) -> list[str]:
        """The facet columns of every result: the three variants appear as labels."""
        return [*self.experiment, *self.schedule, "pruner", "selector", "preservation"]


@dataclass(frozen=True)
class Grid:
    """Runs arranged by facet.

    facets: one row per facet (index ``facet``), columns ``keys.shown`` and ``family`` (the
    preservation value without its fields) and ``joint`` (it has joint cells).
    cells: the runs, a control repeated for each facet that it serves, with columns ``facet``,
    ``role`` and ``own_preservation``.
    """

    keys: Keys
    facets: pd.DataFrame
    cells: pd.DataFrame


def side_of(column: str) -> Side:
    """The side a column of the runs table belongs to; unknown names are the experiment's."""
    if column in _NAMED:
        return _NAMED[column]
    for prefix, side in _PREFIXED.items():
        if column.startswith(prefix):
            return side
    return "experiment"


def roles(runs: pd.DataFrame) -> pd.Series:
    """dense, prune_only, coreset_only or joint; told by the pruner's name, not by its rate."""
    pruned, reduced = runs["pruner"] != "none", runs["coreset_ratio"] < 1
    role = np.select([pruned & reduced, pruned, reduced], ["joint", "prune_only", "coreset_only"], "dense")
    return pd.Series(role, index=runs.index, dtype="str")


def find_keys(runs: pd.DataFrame) -> Keys:
    """The key columns of a table: the names, and every further field that was swept."""
    runs = _acting(runs)
    pruned, reduced = runs[runs["pruner"] != "none"], runs[runs["coreset_ratio"] < 1]

    def swept(side: Side, of: pd.DataFrame, within: list[str]) -> tuple[str, ...]:
        of_column = {"epochs": _uncut(of)}
        return tuple(c for c in runs.columns if side_of(c) == side and _varies(of_column.get(c, of), c, within))

    return Keys(
        (
            "data",
            "model",
            *(c for c in swept("experiment", runs, []) if c not in ("data", "model")),
        ),
        swept("schedule", runs, []),
        # A field that follows the rate (FC rate = p) is no variant: it is the same treatment.
        ("pruner", *swept("pruner", pruned, ["pruner", "prune_rate"])),
        ("selector", *swept("selector", reduced, ["selector", "coreset_ratio"])),
        ("preservation", *swept("preservation", reduced, ["preservation"])),
    )


@dataclass(frozen=True)
class _Table:
    """A runs table that is equal to another one when it has the same bytes."""

    digest: bytes
    runs: pd.DataFrame = field(compare=False)


def arrange(runs: pd.DataFrame) -> Grid:
    """Validated runs as facets; independent of the order of the rows. Remembered: a report asks ten times."""
    return _arranged(_Table(sha256(pickle.dumps(runs)).digest(), runs))


@lru_cache(maxsize=4)
def _arranged(given: _Table) -> Grid:
    runs = _acting(given.runs)
    keys = find_keys(runs)
    table = runs.assign(
        role=roles(runs),
        prune_rate=runs["prune_rate"].round(9),
        coreset_ratio=runs["coreset_ratio"].round(9),
        own_preservation=_labels(runs, keys.preservation),
    )
    facets = _facets(table, keys)
    pairs = _members(table, facets, keys)
    cells = table.loc[pairs["row"]].assign(facet=pairs["facet"].to_numpy())
    cells = cells.sort_values([*CELL, "seed", "cell_id"], ignore_index=True)
    return Grid(keys, _shown(facets, keys), cells)


def _acting(runs: pd.DataFrame) -> pd.DataFrame:
    """Classifier rates as text, ``null`` where a pruned run gives none: there it is a treatment of its own."""
    if "fc_prune_rate" not in runs or not pd.api.types.is_numeric_dtype(runs["fc_prune_rate"]):
        return runs
    rates = runs["fc_prune_rate"]
    acts = runs["pruner"] != "none"
    if "scope" in runs:
        acts &= runs["scope"].isna() | (runs["scope"] == "all")
    words = rates.map("{:.9g}".format, na_action="ignore").astype("str")
    return runs.assign(fc_prune_rate=words.mask(acts & rates.isna(), NULL))


def _uncut(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that reach their last epoch: what others say in ``epochs`` may be where they ended, and no setting."""
    return runs[runs["status"].isin(["finished", RUNNING]) & ~diverged(runs)]


def _varies(runs: pd.DataFrame, column: str, within: list[str]) -> bool:
    if column in within:
        return False
    if not within:
        return runs[column].nunique() > 1
    # What is null at some rates and a number at others follows no rate.
    null = runs[column].isin([NULL]).groupby(runs[within[0]]).nunique()
    return bool((runs.groupby(within)[column].nunique() > 1).any() or (null > 1).any())


def _facets(table: pd.DataFrame, keys: Keys) -> pd.DataFrame:
    """One facet per variant with joint cells; then for the single treatments none of them shows."""
    facets, pairs = table.head(0)[keys.all].assign(joint=False), pd.DataFrame({"row": []})
    for ranks in (["joint"], ["prune_only", "coreset_only"], ["dense"]):
        alone = table["role"].isin(ranks) & ~table.index.isin(pairs["row"])
        found = table.loc[alone, keys.all].drop_duplicates()
        facets = pd.concat([facets, found.assign(joint=ranks == ["joint"])])
        pairs = _members(table, facets, keys)
    facets = facets.sort_values(["joint", *keys.all], ascending=[False] + [True] * len(keys.all))
    return facets.reset_index(drop=True).rename_axis("facet")


def _members(table: pd.DataFrame, facets: pd.DataFrame, keys: Keys) -> pd.DataFrame:
    """Pairs (facet, row) of every run with every facet it belongs to."""
    facets = facets.reset_index(drop=True)
    base = [*keys.experiment, *keys.schedule]
    on = {
        "dense": base,
        "prune_only": [*base, *keys.pruner],
        "coreset_only": [*base, *keys.selector],
    }
    parts = [_exact(facets, table[table["role"] == "joint"], keys.all)]
    for role, columns in on.items():
        pairs = match(facets, table[table["role"] == role], columns)
        parts.append(_preferred(pairs, facets, table, keys) if role == "coreset_only" else pairs)
    return pd.concat(parts, ignore_index=True)


def _exact(facets: pd.DataFrame, runs: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    left = facets[on].assign(facet=facets.index)
    return left.merge(runs[on].assign(row=runs.index), on=on)[["facet", "row"]]


def match(facets: pd.DataFrame, runs: pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """Pairs (facet, row), both index labels, whose ``on`` columns agree; null agrees with all.

    One merge per pair of null patterns, on the columns that neither side leaves open.
    """
    parts = [pd.DataFrame({"facet": [], "row": []}, dtype="int64")]
    for open_left, left in _by_nulls(facets[on].assign(facet=facets.index), on):
        for open_right, right in _by_nulls(runs[on].assign(row=runs.index), on):
            shared = [c for c in on if c not in open_left | open_right]
            mine, its = left[[*shared, "facet"]], right[[*shared, "row"]]
            both = mine.merge(its, on=shared) if shared else mine.merge(its, how="cross")
            parts.append(both[["facet", "row"]])
    return pd.concat(parts, ignore_index=True)


def _by_nulls(frame: pd.DataFrame, on: list[str]) -> Iterator[tuple[set[str], pd.DataFrame]]:
    empty = frame[on].isna().to_numpy(dtype=bool)
    for pattern in np.unique(empty, axis=0):
        rows = (empty == pattern).all(axis=1)
        yield {c for c, null in zip(on, pattern, strict=True) if null}, frame[rows]


def _preferred(pairs: pd.DataFrame, facets: pd.DataFrame, table: pd.DataFrame, keys: Keys) -> pd.DataFrame:
    """One preservation per facet and ratio: finished before failed, none, own, then by name.

    A facet without joint cells shows its own preservation first.
    """
    rows = table.loc[pairs["row"]].reset_index(drop=True)
    label, facet = rows["own_preservation"], pairs["facet"]
    own = label == _labels(facets, keys.preservation).loc[facet].reset_index(drop=True)
    alone = ~facets["joint"].loc[facet].reset_index(drop=True)
    rank = np.select([own & alone, label == "none", own], [0, 1, 2], 3)
    options = pd.DataFrame(
        {
            "facet": facet,
            "ratio": rows["coreset_ratio"],
            "label": label,
            "rank": rank,
            "unfinished": ~rows["status"].isin(["finished", RUNNING]),
        }
    )
    order = options.sort_values(["facet", "ratio", "unfinished", "rank", "label"])
    chosen = order.drop_duplicates(["facet", "ratio"])[["facet", "ratio", "label"]]
    keep = options.reset_index().merge(chosen, on=["facet", "ratio", "label"])["index"]
    return pairs.loc[np.sort(keep)]


def _labels(frame: pd.DataFrame, side: tuple[str, ...]) -> pd.Series:
    """``el2n (balanced=True)`` for each row of the columns of one side."""
    fields = side[1:]
    unique = frame[list(side)].drop_duplicates()
    words = [
        _label(str(row[0]), {f: v for f, v in zip(fields, row[1:], strict=True) if pd.notna(v)})
        for row in unique.itertuples(index=False, name=None)
    ]
    found = frame[list(side)].merge(unique.assign(_label=words), on=list(side), how="left")
    return found["_label"].set_axis(frame.index).astype("str")


def _label(name: str, fields: dict[str, object]) -> str:
    if not fields:
        return name
    said = ", ".join(f"{_short(field)}={_value(value)}" for field, value in fields.items())
    return f"{name} ({said})"


def _short(field: str) -> str:
    return field.rpartition(".")[2].removeprefix("preservation_")


def _value(value: object) -> str:
    """``0.1``; ``5 per interval`` for the text ``per_interval: 5``."""
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"^per_(\w+): (\S+)$", r"\2 per \1", str(value))


def _shown(facets: pd.DataFrame, keys: Keys) -> pd.DataFrame:
    sides = {"pruner": keys.pruner, "selector": keys.selector, "preservation": keys.preservation}
    out = facets[[*keys.experiment, *keys.schedule]].copy()
    for name, side in sides.items():
        out[name] = _labels(facets, side)
    return out.assign(family=facets["preservation"], joint=facets["joint"])


def own_columns(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Each run's own facet columns (not of the facets it serves) and experiment; and their names."""
    runs = _acting(runs)
    keys = find_keys(runs)
    out = runs[[*keys.experiment, *keys.schedule]].copy()
    out["pruner"] = _labels(runs, keys.pruner)
    out["selector"] = _labels(runs, keys.selector)
    out["preservation"] = _labels(runs, keys.preservation)
    unique = runs[list(keys.experiment)].drop_duplicates()
    unique["experiment"] = [
        experiment_label(dict(zip(keys.experiment, row, strict=True)))
        for row in unique.itertuples(index=False, name=None)
    ]
    words = runs[list(keys.experiment)].merge(unique, on=list(keys.experiment), how="left")
    return out.assign(experiment=words["experiment"].to_numpy()), keys.shown


def experiment_label(fields: dict[str, Any]) -> str:
    """``digits, mlp, label_noise 0.2``: the experiment (and schedule) fields in words."""
    named = [
        str(v) if k in ("data", "model") else f"{k.rpartition('.')[2]} {_value(v)}"
        for k, v in fields.items()
        if pd.notna(v)
    ]
    return ", ".join(named)


def told_apart(frame: pd.DataFrame, fields: list[str]) -> pd.Series:
    """Each row's experiment and schedule, given by ``fields``, in words; empty where all rows have the same."""
    unique = frame[fields].drop_duplicates()
    rows = [dict(zip(fields, row, strict=True)) for row in unique.itertuples(index=False, name=None)]
    words = [experiment_label(row) if len(rows) > 1 else "" for row in rows]
    found = frame[fields].merge(unique.assign(_words=words), on=fields, how="left")["_words"]
    return found.set_axis(frame.index).astype("str")
