"""Confirmations in a folder: read, tabled, drawn, and part of the report; damaged ones are named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from analysis.confirmations import from_record, read, table, verdict_record
from analysis.counterfactual import ARMS
from analysis.figures import arms as figure
from analysis.figures.canvas import encode
from tests.analysis.synthetic_runs import grid, write
from tests.analysis.synthetic_runs import table as runs_table

EVENT = "0123456789ab-10"
GAPS = {"neither": 0.0, "weights": 0.001, "samples": 0.16, "both": 0.33}


def record(seeds: int = 4, **changes: Any) -> dict[str, Any]:
    """Arms that part at epoch 10 and are 0, 0.1, 16 and 33 points down from then on, give or take one."""
    runs = [
        {
            "arm": arm,
            "seed": seed,
            "rows": [{"epoch": t, "accuracy_test": 0.98 - GAPS[arm] + 0.01 * (seed % 2)} for t in range(10, 21)],
        }
        for arm in ARMS
        for seed in range(1, seeds + 1)
    ]
    whole = {"cell_id": "0123456789ab", "epoch": 10, "last": 14, "horizon": 20, "label": "rigl × el2n", "before": 0.97}
    return {**whole, "runs": runs, **changes}


def put(folder: Path, content: str, name: str = EVENT) -> None:
    (folder / "confirmations").mkdir(exist_ok=True)
    (folder / "confirmations" / f"{name}.json").write_text(content)


def test_a_record_becomes_values() -> None:
    found = from_record(record())
    assert (found.event, found.figure) == (EVENT, f"confirmation-{EVENT}")
    assert found.verdict.title == "amplified"
    assert found.verdict.interaction.mean == pytest.approx(0.169)
    assert len(found.trajectories) == 4 * 11
    row = table([found]).iloc[0]
    assert (row["event"], row["verdict"], row["n"]) == (EVENT, "amplified", 4)
    assert row["both"] == pytest.approx(0.33)


def test_a_verdict_as_plain_data_has_no_number_that_json_lacks() -> None:
    told = verdict_record(from_record(record(seeds=1)).verdict)
    assert json.loads(json.dumps(told, allow_nan=False))["gaps"]["both"]["lo"] is None
    assert told["title"] == "inconclusive"


def test_what_is_damaged_or_not_begun_is_left_out_and_only_damage_is_told(tmp_path: Path) -> None:
    put(tmp_path, json.dumps(record()))
    put(tmp_path, json.dumps(record(runs=[])), "begun")
    put(tmp_path, json.dumps(record(runs=record()["runs"][:3])), "early")
    damaged = ("{", "[]", '{"runs": 3}', json.dumps(record(runs=[{"arm": "none", "seed": 1, "rows": [{"epoch": 1}]}])))
    for name, content in enumerate(damaged):
        put(tmp_path, content, f"damaged{name}")
    found, notes = read(tmp_path)
    assert [one.event for one in found] == [EVENT]
    assert len(notes) == 4
    assert all(
        re.match(r"confirmations/damaged\d.json is no record of a confirmation \(.+\): left out\.", n) for n in notes
    )
    assert read(tmp_path / "nowhere") == ((), ())


def test_the_figure_has_one_scale_every_gap_and_equal_bytes() -> None:
    info = from_record(record())
    drawn = figure.draw(info)
    assert len(drawn.axes) == 4
    assert len({axes.get_ylim() for axes in drawn.axes}) == 1
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles[0] == "neither removed\nends at 98.5 %"
    assert titles[3] == "weights and samples\ngap 33.0 [33.0, 33.0]"
    assert [axes.get_ylabel() for axes in drawn.axes] == ["test accuracy (%)", "", "", ""]
    assert [len(axes.texts) for axes in drawn.axes] == [0, 0, 1, 1]  # an arrow where a gap can be seen
    assert encode(figure.draw(info), "svg") == encode(drawn, "svg")
    low, high = drawn.axes[0].get_ylim()
    assert low < 65
    assert high > 99


def test_drawn_is_what_is_judged_where_a_confirmation_was_interrupted() -> None:
    """Orders 3 and 4 have no arm ``both`` yet: the curve of ``neither`` is that of orders 1 and 2 too."""
    whole = record()
    cut = [run for run in whole["runs"] if run["arm"] != "both" or run["seed"] <= 2]
    found = from_record({**whole, "runs": cut})
    assert found.verdict.n == 2
    assert set(found.trajectories["n"]) == {2}


def test_one_seed_is_drawn_without_an_interval() -> None:
    assert encode(figure.draw(from_record(record(seeds=1))), "png")


def test_the_report_shows_them(tmp_path: Path) -> None:
    write(tmp_path, runs_table(grid({(0.0, 1.0): [0.9], (0.9, 1.0): [0.8], (0.0, 0.1): [0.8]})))
    put(tmp_path, json.dumps(record()))
    put(tmp_path, "{", "damaged")
    result = report.write(report.analyze(tmp_path))
    names = {str(path.relative_to(tmp_path)) for path in result.files}
    assert {f"figures/confirmation-{EVENT}.png", f"figures/confirmation-{EVENT}.svg", "confirmations.csv"} <= names
    page = (tmp_path / "report.html").read_text()
    assert "amplified: gaps weights 0.1" in page
    assert "<h3>Confirmations</h3>" in page
    assert "confirmations/damaged.json is no record" in page
