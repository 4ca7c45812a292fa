"""How the runs were made: read from plan.json when it says so, never in the way when it does not."""

import json
from datetime import date
from pathlib import Path

import pytest

from analysis import report, settings
from tests.analysis.synthetic_runs import grid, table, write

CELLS = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.6]}
COMMON = {
    "lr": 0.05,
    "batch_size": 64,
    "epochs": 40,
    "model.name": "small_cnn",
    "fc_prune_rate": None,
    "nesterov": True,
}
ENVIRONMENT = {"mlflow.source.git.commit": "abc123", "version.torch": "2.14.1", "host": "<b>node</b>"}


def page(folder: Path, plan: str | None) -> tuple[str, tuple[str, ...]]:
    """The report of a small sweep beside ``plan``, and its notes."""
    write(folder, table(grid(CELLS)))
    if plan is not None:
        (folder / "plan.json").write_text(plan)
    done = report.write(report.analyze(folder), day=date(2026, 1, 31))
    return (folder / "report.html").read_text(), done.notes


def test_settings_carry_the_papers_symbols_and_come_first(tmp_path: Path) -> None:
    common = COMMON | {"warmup_epochs": 5, "select_every": 5, "coreset_ratio": 0.1, "prune_rate": 0.9}
    (tmp_path / "plan.json").write_text(json.dumps({"common": common | {"preservation_weight": 0.1}}))
    found, notes = settings.read(tmp_path)
    assert notes == ()
    assert [(s.symbol, s.field, s.value) for s in found.common] == [
        ("T", "epochs", "40"),
        ("K", "warmup_epochs", "5"),
        ("R", "select_every", "5"),
        ("p", "prune_rate", "0.9"),
        ("α", "coreset_ratio", "0.1"),
        ("λ", "preservation_weight", "0.1"),
        ("", "lr", "0.05"),
        ("", "batch_size", "64"),
        ("", "model.name", "small_cnn"),
        ("", "fc_prune_rate", "null"),
        ("", "nesterov", "true"),
    ]


def test_the_page_names_how_the_runs_were_made(tmp_path: Path) -> None:
    text, notes = page(tmp_path, json.dumps({"common": COMMON, "environment": ENVIRONMENT, "cells": {}}))
    assert 'href="#settings"' in text
    for words in (
        "epochs <i>T</i></dt><dd>40<",
        "small_cnn",
        "<dt>git.commit<",
        "abc123",
        "<dt>torch<",
        "2.14.1",
        "&lt;b&gt;node",
    ):
        assert words in text
    assert "Analysed 2026-01-31" in text
    assert not any("plan.json" in note for note in notes)


def test_what_differs_between_cells_is_listed_too(tmp_path: Path) -> None:
    """As a warm-up does that follows the coreset: it is no setting of all cells, and no axis either."""
    varied = {"seed": list(range(20)), "warmup_epochs": [1, 2, 10], "model.hidden": [[8], [8, 4]]}
    text, _ = page(tmp_path, json.dumps({"varied": varied}))
    found, _ = settings.read(tmp_path)
    assert [(s.symbol, s.field, s.value) for s in found.varied] == [
        ("K", "warmup_epochs", "1, 2, 10"),
        ("", "seed", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (20 in all)"),
        ("", "model.hidden", "[8], [8, 4]"),
    ]
    assert "<h3>Varied</h3>" in text
    assert "<h3>In all cells</h3>" not in text


def test_either_key_may_be_missing(tmp_path: Path) -> None:
    text, _ = page(tmp_path, json.dumps({"environment": ENVIRONMENT}))
    assert "Environment" in text
    assert "In all cells" not in text


@pytest.mark.parametrize("plan", [None, "{}", '{"name": "test", "cells": {}}', '{"common": {}, "environment": {}}'])
def test_nothing_said_leaves_the_section_out(tmp_path: Path, plan: str | None) -> None:
    text, notes = page(tmp_path, plan)
    assert "Settings" not in text
    assert "Analysed 2026-01-31" in text
    assert not any("plan.json" in note for note in notes)


@pytest.mark.parametrize(
    "plan",
    [
        "",
        "{",
        "[1, 2]",
        "null",
        '{"common": [1]}',
        '{"common": "lr"}',
        '{"environment": 3, "common": 4}',
        "[" * 100_000,
    ],
)
def test_a_damaged_plan_is_one_note(tmp_path: Path, plan: str) -> None:
    text, notes = page(tmp_path, plan)
    assert len([note for note in notes if "plan.json" in note]) == 1
    assert "plan.json" in text
    assert 'id="settings"' not in text


def test_a_plan_that_is_no_text_is_one_note(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00{")
    assert len(settings.read(tmp_path)[1]) == 1
    (tmp_path / "plan.json").unlink()
    (tmp_path / "plan.json").mkdir()
    assert len(settings.read(tmp_path)[1]) == 1


def test_what_is_well_said_is_shown_beside_what_is_not(tmp_path: Path) -> None:
    text, notes = page(tmp_path, json.dumps({"common": COMMON, "environment": ["torch"]}))
    assert "small_cnn" in text
    assert [note for note in notes if "plan.json" in note] == [
        "plan.json: environment holds a list, not fields with their values; the page leaves it out."
    ]


def test_values_of_several_parts_stay_readable(tmp_path: Path) -> None:
    common = {"model.hidden": [256, 128], "pruner.update_every": {"per_interval": 5}, "augmentation": "crop_flip"}
    (tmp_path / "plan.json").write_text(json.dumps({"common": common}))
    found, _ = settings.read(tmp_path)
    assert [s.value for s in found.common] == ["[256, 128]", "per_interval: 5", "crop_flip"]
