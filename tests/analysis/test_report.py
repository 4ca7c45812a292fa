"""The report: one page that needs nothing, the numbers a tracker logs, and what it warns of."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import report
from analysis.runs import TableError
from tests.analysis.synthetic_runs import grid, realistic, run, table, write
from tests.analysis.test_collapse import step, sweep


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> report.Analysis:
    folder = tmp_path_factory.mktemp("sweep")
    return report.write(report.analyze(write(folder, realistic())), "swast analyze outputs/test")


def test_files_lie_under_the_folder(written: report.Analysis) -> None:
    names = {str(path.relative_to(written.folder)) for path in written.files}
    assert {
        "report.html",
        "surface.csv",
        "synergy.csv",
        "figures/bliss.png",
        "figures/bliss.svg",
        "figures/accuracy_flops.png",
        "tables/accuracy.tex",
    } <= names
    assert all(path.stat().st_size > 0 for path in written.files)
    found = {str(p.relative_to(written.folder)) for p in written.folder.rglob("*") if p.is_file()}
    assert found == names | {"runs.parquet"}


def test_page_is_self_contained_and_small(written: report.Analysis) -> None:
    page = (written.folder / "report.html").read_text()
    assert len(page) < report.PAGE_BYTES
    assert not re.search(r"""(src|href|action)\s*=\s*["']?\s*(https?:|//)""", page)
    assert not re.search(r"@import|url\(\s*['\"]?https?:", page)
    assert "default-src 'none'" in page
    assert page.count("data:image/webp;base64,") == 7
    assert "swast analyze outputs/test" in page


def test_what_makes_the_page_too_large_is_left_out_events_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, history = sweep({"joint": step(0.85, 15, 0.3)})
    found = report.analyze(write(write(tmp_path, runs), history, name="history"))

    def page() -> str:
        report.write(found)
        return (tmp_path / "report.html").read_text()

    whole = page()
    (course,) = re.findall(r'draw\("event0".*', whole)
    for limit, shown in ((len(whole), (True, True)), (len(whole) - len(course), (False, True)), (1000, (False, False))):
        monkeypatch.setattr(report, "PAGE_BYTES", limit)
        assert ('id="event0"' in page(), 'id="map0"' in page()) == shown


def test_figures_of_the_page_share_one_scale(written: report.Analysis) -> None:
    """135 pixels an inch for all, so that their letters are equally large."""
    page = (written.folder / "report.html").read_text()
    widths = [int(found) for found in re.findall(r'<img width="(\d+)"', page)]
    with Image.open(written.folder / "figures" / "bliss.png") as bliss:
        assert widths[5] == 135 * bliss.width // 200
    assert widths[-1] == round(135 * 7.2)


def test_page_reads_without_scripts(written: report.Analysis) -> None:
    page = re.sub(r"<script>.*?</script>", "", (written.folder / "report.html").read_text(), flags=re.DOTALL)
    for words in (
        "Best gain over the coreset alone",
        "Strongest antagonism",
        "Runs failed: 3 (out of memory)",
        "Grid points without a run: 1",
        "<td>el2n (balanced=True)</td>",
    ):
        assert words in page


def test_headline_numbers_are_flat_and_finite(written: report.Analysis) -> None:
    numbers = written.headline.numbers()
    assert numbers["cells"] == len(realistic())
    assert numbers["cells_failed"] == 3
    assert numbers["points_missing"] == 1
    assert numbers["strongest_antagonism"] < -0.3 < 0 < numbers["best_gain_hi"]
    assert numbers["best_gain_lo"] < numbers["best_gain"]
    assert all(isinstance(v, float) for v in numbers.values())


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    small = table(
        grid({(0.0, 1.0): [0.9, 0.8], (0.5, 1.0): [0.8, 0.7], (0.0, 0.1): [0.7, 0.5], (0.5, 0.1): [0.5, 0.4]})
    )
    pages = []
    for name, runs in (("a", small), ("b", small.sample(frac=1, random_state=0))):
        (tmp_path / name / "sweep").mkdir(parents=True)
        done = report.write(
            report.analyze(write(tmp_path / name / "sweep", runs)), "swast analyze sweep", date(2026, 1, 31)
        )
        pages.append({p.relative_to(done.folder): p.read_bytes() for p in done.files})
    assert pages[0] == pages[1]


def test_csv_and_parquet_give_the_same_report(tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind, realistic(), kind)
    a, b = report.analyze(tmp_path / "csv"), report.analyze(tmp_path / "parquet")
    pd.testing.assert_frame_equal(a.synergy, b.synergy, rtol=1e-9)
    assert a.notes == b.notes


def test_few_seeds_are_warned_of(tmp_path: Path) -> None:
    notes = " ".join(report.analyze(write(tmp_path, realistic(seeds=2))).notes)
    assert "fewer than 3 seeds" in notes


def test_a_control_of_several_facets_is_one_cell_of_the_warning(tmp_path: Path) -> None:
    """Two selectors: dense and prune-only serve both; a third seed of one joint cell makes it no longer few."""
    cells = {(0.0, 1.0): [0.9, 0.9], (0.5, 1.0): [0.8, 0.8]}
    joint = {(0.0, 0.1): [0.7, 0.7], (0.5, 0.1): [0.5, 0.5]}
    rows = [*grid(cells), *grid(joint), *grid(joint, selector="random"), run(0.5, 0.1, 2, 0.5)]
    kinds = "2 joint, 4 controls; runs that differ in their seed alone are one cell"
    said = f"5 of 6 cells ({kinds}) have fewer than 3 seeds"
    assert f"{said}: wide intervals, or none." in report.analyze(write(tmp_path, table(rows))).notes


def test_an_extreme_of_one_cell_is_none(tmp_path: Path) -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.5]}
    best = report.analyze(write(tmp_path, table(grid(cells)))).headline.best_gain
    assert best is not None
    assert "extreme" not in best.sentence()


def test_the_page_says_what_collapsed(tmp_path: Path) -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.9], (0.0, 0.1): [0.9], (0.5, 0.1): [0.3]}
    report.write(report.analyze(write(tmp_path, table(grid(cells)))))
    page = (tmp_path / "report.html").read_text()
    assert "<strong>Collapse:</strong> 1 of 1 joint cells collapsed, each judged by one seed: one seed cannot" in page
    assert "Outlined, with 1/1 in the corner: its one seed has collapsed." in page
    assert "more than half" not in page.partition('id="method"')[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (grid({(0.0, 1.0): [0.9], (0.5, 0.1): [0.5]}), "joint cells lack controls"),
        (grid({(0.0, 1.0): [0.9], (0.5, 1.0): [0.5]}), "No joint cell"),
        (grid({(0.0, 1.0): [0.9]}) * 2, "share their cell and seed"),
        (grid({(0.0, 1.0): [None], (0.5, 0.1): [None]}), "No run is finished"),
        (grid({(0.0, 1.0): [0.1]}, reason="diverged"), "Runs diverged: 1"),
        (grid({(0.0, 1.0): [0.9]}), "flops_relative is missing"),
    ],
)
def test_notes_and_odd_sweeps_still_make_a_report(tmp_path: Path, rows: list[dict[str, object]], words: str) -> None:
    done = report.write(report.analyze(write(tmp_path, table(rows))))
    assert words in " ".join(done.notes)
    assert words in (tmp_path / "report.html").read_text()


def test_a_sweep_that_only_loses_has_no_best_gain(tmp_path: Path) -> None:
    cells = {(0.0, 1.0): [0.9, 0.91], (0.5, 1.0): [0.8, 0.8], (0.0, 0.1): [0.7, 0.7], (0.5, 0.1): [0.5, 0.52]}
    report.write(report.analyze(write(tmp_path, table(grid(cells)))))
    assert (
        "none, no joint cell lies above its coreset; the nearest: −19.0 percentage"
        in (tmp_path / "report.html").read_text()
    )


@pytest.mark.parametrize("dense", [None, 0.1])
def test_antagonism_that_cannot_be_measured_is_not_said_to_be_absent(tmp_path: Path, dense: float | None) -> None:
    cells = {(0.0, 1.0): [dense], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.5]}
    rows = [row for row in grid(cells) if row["accuracy_test"] is not None]
    report.write(report.analyze(write(tmp_path, table(rows))))
    page = (tmp_path / "report.html").read_text()
    assert "<strong>Strongest antagonism (Bliss):</strong> not known" in page
    assert "no joint cell lies below independence" not in page


def test_tables_of_an_earlier_analysis_go(tmp_path: Path) -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.5]}
    write(tmp_path, table(grid(cells)))
    for name in ("branches.csv", "collapse_events.json", "mine.csv"):
        (tmp_path / name).write_text("old")
    report.write(report.analyze(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} & {"branches.csv", "collapse_events.json", "mine.csv"} == {
        "mine.csv"
    }


def test_history_is_checked(tmp_path: Path) -> None:
    runs = realistic()
    history = pd.DataFrame(
        {"cell_id": runs["cell_id"].head(5), "epoch": 1, "accuracy_test": 0.5, "coreset_size": 1, "switch": False}
    )
    write(write(tmp_path, runs), history, name="history")
    assert "have no history" in " ".join(report.analyze(tmp_path).notes)
    write(tmp_path, history.assign(cell_id=["x", *history["cell_id"].iloc[1:]]), name="history")
    with pytest.raises(TableError, match="cell_id x is not in the runs table"):
        report.analyze(tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("columns", [[], ["cell_id", "epoch", "accuracy_test", "coreset_size", "switch"]])
def test_a_history_without_rows_is_said_not_fatal(tmp_path: Path, kind: str, columns: list[str]) -> None:
    """What a sweep leaves when every cell failed: runs without a number, and a history without a row."""
    runs = table(grid({(0.0, 1.0): [None, None], (0.5, 1.0): [None], (0.0, 0.1): [None], (0.5, 0.1): [None]}))
    lost = dict.fromkeys(("accuracy_val", "flops_sparse", "flops_relative", "seconds"))
    write(
        write(tmp_path, runs.assign(**lost, reason="out of memory"), kind),
        pd.DataFrame([], columns=columns),
        kind,
        "history",
    )
    done = report.write(report.analyze(tmp_path))
    assert "Runs failed: 5 (out of memory), counted but not averaged." in done.notes
    assert "No run is finished: there is nothing to average." in done.notes
    assert "The history table has no rows: nothing about single epochs can be analysed." in done.notes
    assert not any("accuracy_flops" in path.name for path in done.files)
    assert (tmp_path / "figures" / "bliss.png").is_file()


def test_names_in_the_page_are_escaped(tmp_path: Path) -> None:
    rows = grid({(0.0, 1.0): [0.9]}, model="<script>alert(1)</script>")
    report.write(report.analyze(write(tmp_path, table(rows))))
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_importing_and_analysing_load_no_heavy_package(tmp_path: Path) -> None:
    write(tmp_path, realistic(1))
    code = (
        "import sys, analysis; assert 'pandas' not in sys.modules; from analysis import report;"
        f"report.analyze({str(tmp_path)!r});"
        "print(sorted({'matplotlib', 'plotly', 'torch', 'ray', 'mlflow', 'core', 'sweeps', 'orchestration'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_control_of_several_facets_that_is_missing_is_one(tmp_path: Path) -> None:
    """Two pruners and two selectors without a dense run: one point, and not one in each of four facets."""
    rows = [run(0.5, 1.0, 0, 0.8, pruner=pruner) for pruner in ("rigl", "gmp")]
    rows += [run(0.0, 0.1, 0, 0.7, selector=selector) for selector in ("el2n", "random")]
    rows += [run(0.5, 0.1, 0, 0.6, pruner=p, selector=s) for p in ("rigl", "gmp") for s in ("el2n", "random")]
    found = report.analyze(write(tmp_path, table(rows)))
    assert found.headline.points_missing == 1
    assert "Grid points without a run: 1, crossed in the figures." in found.notes
