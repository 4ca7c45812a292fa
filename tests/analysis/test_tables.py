"""Loading and validation of the two tables."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import (
    HISTORY_COLUMNS,
    RUN_COLUMNS,
    TableError,
    absent_columns,
    load_history,
    load_runs,
    validate_history,
    validate_runs,
)
from tests.analysis.synthetic_runs import grid, realistic, run, table, write


def history(**changes: object) -> pd.DataFrame:
    rows = {
        "cell_id": ["a", "a", "b"],
        "epoch": [1, 2, 1],
        "accuracy_test": [0.5, 0.6, None],
        "coreset_size": [10, 10, 20],
        "switch": [False, True, False],
    }
    return pd.DataFrame(rows | changes)


def test_csv_equals_parquet(tmp_path: Path) -> None:
    runs = realistic()
    for kind in ("csv", "parquet"):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind, runs, kind)
        write(tmp_path / kind, history(), kind, "history")
    pd.testing.assert_frame_equal(load_runs(tmp_path / "csv"), load_runs(tmp_path / "parquet"))
    pd.testing.assert_frame_equal(load_history(tmp_path / "csv"), load_history(tmp_path / "parquet"))


def test_identifiers_and_names_survive_csv(tmp_path: Path) -> None:
    runs = table([run(0.0, 1.0, 0, 0.9)]).assign(cell_id="12e456789012")
    loaded = load_runs(write(tmp_path, runs, "csv"))
    assert loaded["cell_id"].tolist() == ["12e456789012"]
    assert loaded["pruner"].tolist() == ["none"]


def test_a_null_setting_stays_null(tmp_path: Path) -> None:
    rows = [run(0.0, 1.0, 0, 0.9, **{"selector.balanced": None}), run(0.0, 0.1, 0, 0.8, **{"selector.balanced": True})]
    loaded = load_runs(write(tmp_path, table(rows), "csv"))
    assert loaded["selector.balanced"].isna().tolist() == [True, False]
    assert loaded["selector.balanced"].dtype == "boolean"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy_test": 93.1}, ["accuracy_test", "93.1", "[0", "1]"]),
        ({"status": "done"}, ["status", "'done'", "finished | failed | stopped"]),
        ({"coreset_ratio": 0.0}, ["coreset_ratio", "0.0", "(0"]),
        ({"seed": 1.5}, ["seed", "1.5", "whole number"]),
        ({"prune_rate": "much"}, ["prune_rate", "'much'", "a number"]),
        ({"cell_id": "same"}, ["cell_id same", "more than once", "one row per cell"]),
        ({"accuracy_test": None}, ["accuracy_test", "finished row"]),
        ({"pruner": "none", "prune_rate": 0.5}, ["prune_rate", "0.5", "pruner"]),
        ({"accuracy_class_3": 2.0}, ["accuracy_class_3", "2.0"]),
        ({"model": None}, ["model", "a value in every row"]),
    ],
)
def test_errors_name_file_column_value_and_allowed(changes: dict[str, object], words: list[str]) -> None:
    runs = table([run(0.0, 1.0, s, 0.9) for s in range(2)]).assign(**changes)
    with pytest.raises(TableError) as error:
        validate_runs(runs, "runs.csv")
    message = str(error.value)
    assert message.startswith("runs.csv: ")
    assert all(word in message for word in words), message


def test_a_missing_required_column_is_named() -> None:
    runs = table([run(0.0, 1.0, 0, 0.9)]).drop(columns=["chance", "seed"])
    with pytest.raises(TableError, match=r"required column seed is missing.*add seed, chance"):
        validate_runs(runs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": [1, 1, 1]}, "cell_id a, epoch 1 occurs more than once"),
        ({"epoch": [0, 1, 1]}, "epoch holds 0"),
        ({"switch": ["yes", "no", "no"]}, "True | False"),
        ({"lost_support": 1.5}, "lost_support"),
    ],
)
def test_history_errors(changes: dict[str, object], words: str) -> None:
    with pytest.raises(TableError) as error:
        validate_history(history(**changes))
    assert words in str(error.value)


def test_history_types() -> None:
    typed = validate_history(history(switch=["True", "False", "1"], dead_layers=[0, None, 1]))
    assert typed["switch"].tolist() == [True, False, True]
    assert typed["dead_layers"].dtype == "Int64"


def test_no_table_empty_table_and_broken_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"neither runs.parquet nor runs.csv"):
        load_runs(tmp_path)
    with pytest.raises(TableError, match="no rows"):
        validate_runs(realistic().head(0))
    with pytest.raises(TableError, match=r"runs.csv: the table has no rows; run at least one cell first"):
        load_runs(write(tmp_path, pd.DataFrame([]), "csv"))
    (tmp_path / "runs.parquet").write_bytes(b"not parquet")
    with pytest.raises(TableError, match=r"runs.parquet: cannot be read"):
        load_runs(tmp_path)


def test_missing_optional_columns_are_said_not_fatal() -> None:
    said = absent_columns(table(grid({(0.0, 1.0): [0.9]})))
    assert any("flops_relative" in sentence and "front" in sentence for sentence in said)
    assert absent_columns(realistic()) == ()


def test_schema_is_literal_and_unique() -> None:
    for columns in (RUN_COLUMNS, HISTORY_COLUMNS):
        names = [c.name for c in columns]
        assert len(set(names)) == len(names)
        assert all(c.nullable for c in columns if c.optional)
