"""The two tables a sweep leaves behind: their schema, loading and validation.

The README says what each column is. Accuracies are fractions in
[0, 1], costs in FLOP, times in seconds. A table may be parquet or CSV; both give equal frames.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

Kind = Literal["str", "int", "float", "bool"]
STATUSES = ("finished", "failed", "stopped")
RUNNING = "running"
"""The status of a run that is not over, or not begun: in the tables of a sweep under way, never in a folder."""
FRACTION = pd.Interval(0, 1, closed="both")
POSITIVE_FRACTION = pd.Interval(0, 1, closed="right")
NOT_NEGATIVE = pd.Interval(0, float("inf"), closed="left")
FROM_ONE = pd.Interval(1, float("inf"), closed="left")


class TableError(ValueError):
    """A table that cannot be analysed: names the file, the column, the value and the way out."""


@dataclass(frozen=True)
class Column:
    """One column of the schema.

    ``optional``: the column may be missing; ``absent`` says what is lost then.
    ``nullable``: single values may be missing. ``within`` bounds numbers, ``words`` strings.
    """

    name: str
    kind: Kind
    unit: str = ""
    optional: bool = False
    nullable: bool = False
    within: pd.Interval | None = None
    words: tuple[str, ...] = ()
    absent: str = ""


def _optional(name: str, kind: Kind, unit: str, within: pd.Interval | None = None, absent: str = "") -> Column:
    return Column(name, kind, unit, optional=True, nullable=True, within=within, absent=absent)


RUN_COLUMNS: tuple[Column, ...] = (
    Column("cell_id", "str"),
    Column("sweep", "str"),
    Column("seed", "int"),
    Column("data", "str"),
    Column("model", "str"),
    Column("pruner", "str"),
    Column("selector", "str"),
    Column("preservation", "str"),
    Column("prune_rate", "float", "fraction of weights", within=FRACTION),
    _optional("fc_prune_rate", "float", "fraction of weights", FRACTION),
    Column("coreset_ratio", "float", "fraction of samples", within=POSITIVE_FRACTION),
    Column("status", "str", words=(*STATUSES, RUNNING)),
    _optional("reason", "str", "", absent="diverged runs cannot be counted"),
    _optional("branched_from", "str", ""),
    Column("epochs", "int", "epochs", nullable=True, within=NOT_NEGATIVE),
    Column("accuracy_test", "float", "fraction", nullable=True, within=FRACTION),
    _optional("accuracy_val", "float", "fraction", FRACTION),
    _optional("accuracy_worst_class", "float", "fraction", FRACTION),
    _optional("loss_test", "float", "nats"),
    Column("chance", "float", "fraction", nullable=True, within=FRACTION),
    _optional("n_val", "int", "samples", NOT_NEGATIVE),
    _optional("n_test", "int", "samples", NOT_NEGATIVE),
    _optional("flops_dense", "float", "FLOP", NOT_NEGATIVE),
    _optional("flops_sparse", "float", "FLOP", NOT_NEGATIVE),
    _optional("flops_selection", "float", "FLOP", NOT_NEGATIVE),
    _optional(
        "flops_relative",
        "float",
        "dense training = 1",
        NOT_NEGATIVE,
        absent="no accuracy-FLOPs front and no contrasts at equal FLOPs",
    ),
    _optional("flops_paper", "float", "dense training = 1", NOT_NEGATIVE),
    _optional("seconds", "float", "s", NOT_NEGATIVE, absent="no times and no bubble areas"),
)

HISTORY_COLUMNS: tuple[Column, ...] = (
    Column("cell_id", "str"),
    Column("epoch", "int", "epochs", within=FROM_ONE),
    Column("accuracy_test", "float", "fraction", nullable=True, within=FRACTION),
    _optional("accuracy_val", "float", "fraction", FRACTION),
    _optional("loss_train", "float", "nats"),
    _optional("loss_val", "float", "nats"),
    _optional("loss_test", "float", "nats"),
    _optional("loss_preservation", "float", "nats"),
    _optional("lr", "float", "", NOT_NEGATIVE),
    _optional("density", "float", "fraction of weights", FRACTION),
    Column("coreset_size", "int", "samples", nullable=True, within=NOT_NEGATIVE),
    Column(
        "switch",
        "bool",
        "re-selected at the start of this epoch; of a run that does so in every epoch, the first and every R-th",
    ),
    _optional("samples_removed", "int", "samples", NOT_NEGATIVE),
    _optional("samples_added", "int", "samples", NOT_NEGATIVE),
    _optional("weights_removed", "int", "weights", NOT_NEGATIVE),
    _optional("weights_grown", "int", "weights", NOT_NEGATIVE),
    _optional("dead_layers", "int", "layers", NOT_NEGATIVE),
    _optional("layers", "str", "JSON"),
    _optional("lost_support", "float", "fraction", FRACTION),
    _optional("lost_support_random", "float", "fraction", FRACTION),
    _optional("shock", "float", "ratio of norms", NOT_NEGATIVE),
    _optional("class_imbalance", "float", "total variation", FRACTION),
    _optional("noise_ratio", "float", "fraction", FRACTION),
    _optional("noisy_clean_loss", "float", "ratio", NOT_NEGATIVE),
    _optional("seconds", "float", "s", NOT_NEGATIVE),
)

_PER_CLASS = re.compile(r"(accuracy|lost_support)_class_\d+")
_BOOLS = {"True": True, "true": True, "1": True, "1.0": True} | {
    "False": False,
    "false": False,
    "0": False,
    "0.0": False,
}


def load_runs(folder: Path | str) -> pd.DataFrame:
    """The runs table of ``folder`` (runs.parquet, else runs.csv), one row per cell, validated."""
    path = _find(Path(folder), "runs")
    return validate_runs(_read(path, RUN_COLUMNS), path.name)


def load_history(folder: Path | str) -> pd.DataFrame:
    """The history table of ``folder``, one row per cell and epoch, validated."""
    path = _find(Path(folder), "history")
    return validate_history(_read(path, HISTORY_COLUMNS), path.name)


def validate_runs(runs: pd.DataFrame, source: str = "runs") -> pd.DataFrame:
    """``runs`` with the schema's dtypes; ``source`` names the table in errors.

    Further columns are settings that were swept; they get pandas' nullable dtypes, in which
    a null means "this field does not act in this cell".

    Raises:
        TableError: a required column is missing or a value is not allowed.
    """
    if not len(runs):
        raise TableError(f"{source}: the table has no rows; run at least one cell first.")
    typed = _typed(runs, RUN_COLUMNS, source)
    _refuse_duplicates(typed, ["cell_id"], source, "keep one row per cell")
    finished = typed["status"] == "finished"
    for name in ("accuracy_test", "chance"):
        _refuse(typed, name, finished & typed[name].isna(), source, "a number in every finished row")
    odd = (typed["pruner"] == "none") & (typed["prune_rate"] > 0)
    _refuse(typed, "prune_rate", odd, source, "0 where pruner is none; name the pruner")
    return typed.sort_values("cell_id", ignore_index=True)


def validate_history(history: pd.DataFrame, source: str = "history") -> pd.DataFrame:
    """``history`` with the schema's dtypes, sorted by cell and epoch.

    Where every cell failed there is no row, and then there need be no column.

    Raises:
        TableError: a required column is missing or a value is not allowed.
    """
    if not len(history):
        history = history.reindex(columns=[c.name for c in HISTORY_COLUMNS])
    typed = _typed(history, HISTORY_COLUMNS, source)
    _refuse_duplicates(typed, ["cell_id", "epoch"], source, "keep one row per cell and epoch")
    return typed.sort_values(["cell_id", "epoch"], ignore_index=True)


def absent_columns(table: pd.DataFrame, columns: Iterable[Column] = RUN_COLUMNS) -> tuple[str, ...]:
    """One sentence for each missing optional column that an analysis wants."""
    return tuple(
        f"Column {c.name} is missing: {c.absent}." for c in columns if c.absent and c.name not in table.columns
    )


def _find(folder: Path, stem: str) -> Path:
    for suffix in (".parquet", ".csv"):
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    raise TableError(
        f"{folder}: found neither {stem}.parquet nor {stem}.csv; "
        "give the output folder of a sweep, or write the table there."
    )


def _read(path: Path, columns: tuple[Column, ...]) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # Identifiers such as 12e456789012 read as numbers, "none" is a name and not a null.
        strings = {c.name: "str" for c in columns if c.kind == "str"}
        return pd.read_csv(path, dtype=strings, keep_default_na=False, na_values=["", "nan", "NaN"])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise TableError(f"{path.name}: cannot be read ({str(error).splitlines()[0]}); write it again.") from error


def _typed(table: pd.DataFrame, columns: tuple[Column, ...], source: str) -> pd.DataFrame:
    missing = [c.name for c in columns if not c.optional and c.name not in table.columns]
    if missing:
        raise TableError(
            f"{source}: required column {missing[0]} is missing (it has "
            f"{', '.join(map(str, table.columns)) or 'none'}); add {', '.join(missing)}."
        )
    known = {c.name: c for c in columns}
    out = table.reset_index(drop=True)
    for name in map(str, table.columns):
        column = known.get(name)
        if column is None and _PER_CLASS.fullmatch(name):
            column = _optional(name, "float", "fraction", FRACTION)
        out[name] = _setting(out[name]) if column is None else _checked(out, column, source)
    return out


def _setting(values: pd.Series) -> pd.Series:
    """A further swept field: nullable dtype, and text for whatever pandas has no dtype for."""
    found = values.convert_dtypes()
    if isinstance(found.dtype, pd.StringDtype):
        return found.astype("str")
    if found.dtype == object:
        return found.map(str, na_action="ignore").astype("str")
    return found


def _checked(table: pd.DataFrame, column: Column, source: str) -> pd.Series:
    values = _converted(table, column, source)
    if not column.nullable:
        _refuse(table, column.name, values.isna(), source, "a value in every row")
    present = values.notna()
    if column.within is not None:
        low, high = float(column.within.left), float(column.within.right)
        inside = values.between(low, high, inclusive=column.within.closed)
        _refuse(table, column.name, present & ~inside, source, f"{column.within} {column.unit}")
    if column.words:
        bad = present & ~values.isin(column.words)
        _refuse(table, column.name, bad, source, " | ".join(column.words))
    return values


def _converted(table: pd.DataFrame, column: Column, source: str) -> pd.Series:
    raw = table[column.name]
    if column.kind == "str":
        return raw.map(str, na_action="ignore").astype("str")
    if column.kind == "bool":
        flags = raw.map(str, na_action="ignore").map(_BOOLS, na_action="ignore")
        _refuse(table, column.name, flags.isna(), source, "True | False")
        return flags.astype("bool")
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    _refuse(table, column.name, raw.notna() & numbers.isna(), source, "a number")
    if column.kind == "float":
        return numbers
    _refuse(table, column.name, numbers % 1 > 0, source, "a whole number")
    return numbers.astype("Int64" if numbers.isna().any() else "int64")


def _refuse(table: pd.DataFrame, column: str, bad: pd.Series, source: str, allowed: str) -> None:
    """Raise on the first ``bad`` row, naming its value and what is allowed."""
    if not bad.any():
        return
    row = int(bad.to_numpy(dtype=bool).argmax())
    where = f"row {row + 1}, cell_id {table['cell_id'].iloc[row]}"
    value = table[column].iloc[row]
    value = value.item() if isinstance(value, np.generic) else value
    others = f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
    raise TableError(
        f"{source}: column {column} holds {value!r} ({where}{others}); "
        f"allowed is {allowed.strip()}. Correct the table and analyse again."
    )


def _refuse_duplicates(table: pd.DataFrame, keys: list[str], source: str, remedy: str) -> None:
    twice = table.duplicated(keys)
    if twice.any():
        row = table.loc[twice, keys].iloc[0]
        what = ", ".join(f"{k} {row[k]}" for k in keys)
        raise TableError(f"{source}: {what} occurs more than once ({int(twice.sum())} rows too many); {remedy}.")


def diverged(runs: pd.DataFrame) -> pd.Series:
    """By run, whether the table says that it diverged: it is finished, at chance, and cost no more from there on."""
    if "reason" not in runs:
        return pd.Series(False, index=runs.index)
    return (runs["reason"] == "diverged").fillna(False).astype("bool")
