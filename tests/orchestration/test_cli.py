from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import views
from orchestration.catalogue import KINDS, Method, cell, markdown, methods
from orchestration.cli import app, main
from orchestration.doctor import examine
from orchestration.sweep import SweepBusyError, held
from tests.orchestration.grids import TINY

ROOT = Path(__file__).parent.parent.parent
COMMANDS = {
    "run",
    "train",
    "plan",
    "status",
    "analyze",
    "methods",
    "diff",
    "ui",
    "doctor",
    "submit",
    "confirm",
    "interplay",
}


def call(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return " ".join(result.output.split())


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """The one sentence on stderr of a command that ends with exit code 2."""
    monkeypatch.setattr("sys.argv", ["swast", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    return told.err


def starts_nothing(
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: Iterable[str] = (),
) -> str:
    """The one sentence with which ``swast run`` of a grid.yaml with this text is refused, leaving no output folder."""
    grid, output = tmp_path / "grid.yaml", tmp_path / "out"
    grid.write_text(text)
    told = refused(capsys, monkeypatch, "run", grid, "--output", output, *options)
    assert not output.exists()
    return told


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_the_commands_are_these() -> None:
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == COMMANDS


@pytest.mark.parametrize("command", [*sorted(COMMANDS), "store gc"])
def test_help_shows_no_placeholder_behind_a_flag(command: str) -> None:
    lines = CliRunner().invoke(app, [*command.split(), "--help"]).output.splitlines()
    assert [line for line in lines if "bool" in line.lower() and "--help" not in line] == []


def test_run_inline_then_again_then_status_analyze_and_diff(grid: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = call("run", grid, "--inline", "--output", output)
    assert "16 cells listed, 12 distinct" in first
    assert "0 finished already, 12 to do" in first
    assert "12 of 12 cells done" in first
    assert "report.html" in first
    again = call("run", grid, "--inline", "--output", output)
    assert "12 finished already, 0 to do" in again
    assert "12 of 12 cells done, 0 failed" in call("status", output / "tiny")
    assert "report.html" in call("analyze", output / "tiny")
    plan = json.loads((output / "tiny" / "plan.json").read_text())
    a, b = list(plan["cells"])[:2]
    assert "seed" in call("diff", a, b, "--output", output)
    assert "the same cell" in call("diff", a, a, "--output", output)
    files = {path.name for path in (output / "tiny").iterdir()}
    assert {"sweep.yaml", "plan.json", "runs.parquet", "history.parquet", "report.html", "figures", "store"} <= files


def test_extending_a_grid_runs_only_what_is_new(grid: Path, tmp_path: Path) -> None:
    call("run", grid, "--inline", "--output", tmp_path)
    assert "12 finished already, 6 to do" in call(
        "run", grid, "--inline", "--output", tmp_path, "--set", "axes.seed=[0,1,2]"
    )


@pytest.mark.parametrize("asks", ["on_collapse: stop", "frontier: {budget_cells: 0.5}"])
def test_one_cell_of_a_grid_that_asks_for_more_is_trained_and_compared(grid: Path, tmp_path: Path, asks: str) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"{grid.read_text()}{asks}\n".replace("[0, 0.8]", "[0.8]").replace("[1, 0.25]", "[0.25]"))
    other.write_text(other.read_text().replace("[el2n, gradmatch]", "[el2n]").replace("[0, 1]", "[0]"))
    assert "epoch 6 val" in call("train", other, "--output", tmp_path)
    assert "the same cell" in call("diff", other, other)


def test_analysis_of_joint_cells_alone_and_no_stale_figure(grid: Path, tmp_path: Path) -> None:
    alone = ["--set", "axes.prune_rate=[0.5,0.8]", "--set", "axes.coreset_ratio=[0.25]", "--set", "baselines=false"]
    whole = call("run", grid, "--inline", "--output", tmp_path)
    assert "bliss.png" in whole
    stale = tmp_path / "tiny" / "figures" / "bliss-of-another-grid.png"
    stale.write_bytes(b"")
    assert "report.html" in call("run", grid, "--inline", "--output", tmp_path, *alone)
    assert not stale.exists()


def test_an_output_that_cannot_be_written_is_one_sentence(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    told = refused(capsys, monkeypatch, "run", grid, "--inline", "--output", tmp_path / "file")
    assert "cannot write to" in told
    assert "--output" in told


def test_ui_on_a_used_port_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert f"port {port} is in use" in refused(capsys, monkeypatch, "ui", tmp_path, "--port", port)


def test_interplay_writes_two_figures_and_their_numbers(tmp_path: Path) -> None:
    assert "interplay_degree.png" in call("interplay", "--output", tmp_path / "new" / "folder", "--repetitions", "2")
    kinds = [f"interplay_{name}.{kind}" for name in ("degree", "pruning") for kind in ("csv", "png", "svg")]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(kinds)


def test_interplay_where_nothing_can_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    told = refused(capsys, monkeypatch, "interplay", "--repetitions", "2", "--output", tmp_path / "file" / "x")
    assert "cannot write to" in told


def test_plan_starts_nothing(grid: Path, tmp_path: Path) -> None:
    told = call("plan", grid, "--output", tmp_path / "out")
    assert "16 listed, 12 distinct" in told
    assert not (tmp_path / "out").exists()


def test_what_is_executed_is_told_by_the_plan_and_by_the_run_in_the_same_words(grid: Path, tmp_path: Path) -> None:
    number = r"[\d.]+ \w?FLOP"
    words = rf"executed, with evaluation:? ({number} of {number} \([\d.]+ times less than each cell alone\))"
    foretold = re.search(words, " ".join(call("plan", grid, "--output", tmp_path / "out").replace("│", " ").split()))
    told = re.search(words, call("run", grid, "--inline", "--output", tmp_path / "out"))
    assert foretold is not None
    assert told is not None
    assert foretold.group(1) == told.group(1)


def test_plan_of_the_papers_grid_names_petaflops_and_mask_updates() -> None:
    told = call("plan", ROOT / "sweeps" / "grids" / "paper-table1-r18.yaml")
    assert "PFLOP" in told
    assert re.search(r"mask updates after the first switch │ \d+ due at least", told)


def test_train_runs_one_cell_and_prints_its_epochs(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("cell: {data: {name: synthetic, samples: 64}, model: {name: small_cnn, width: 2}, epochs: 2}")
    assert "epoch 2" in call("train", path, "--output", tmp_path)


def test_a_store_elsewhere_and_no_sharing_are_remembered(grid: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    call("run", grid, "--inline", "--output", output, "--store", tmp_path / "elsewhere", "--no-sharing")
    assert not (output / "tiny" / "store").exists()
    assert "12 of 12 cells done, 0 failed" in call("status", output / "tiny")
    (output / "tiny" / "plan.json").write_text("{")
    assert "0 of 12 cells done" in call("status", output / "tiny")


def test_train_leaves_the_tables_of_a_sweep_of_that_name_alone(grid: Path, tmp_path: Path) -> None:
    call("run", grid, "--inline", "--output", tmp_path, "--set", "epochs=2", "--set", "select_every=1")
    before = (tmp_path / "tiny" / "runs.parquet").read_bytes()
    one = ["--set", "axes.seed=[3]", "--set", "axes.prune_rate=[0]", "--set", "axes.coreset_ratio=[1]"]
    call("train", grid, "--output", tmp_path, *one, "--set", "axes.selector=[el2n]", "--set", "epochs=2")
    assert (tmp_path / "tiny" / "runs.parquet").read_bytes() == before
    assert len(list(tmp_path.glob("tiny-*/runs.parquet"))) == 1


def test_train_of_a_grid_says_what_to_do(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refused(capsys, monkeypatch, "train", grid, "--output", tmp_path)
    assert "has 12 cells; swast train takes one" in told


@pytest.mark.parametrize("command", [("run", "--inline"), ("train",)])
def test_a_gpu_that_is_not_there_is_one_sentence_and_starts_nothing(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = tmp_path / "one.yaml"
    path.write_text("cell: {data: {name: synthetic, samples: 64}, epochs: 2}\nresources: {gpus: 0.5}")
    told = refused(capsys, monkeypatch, *command, path, "--output", tmp_path / "out")
    assert "a cell needs 0.5 GPU and torch finds none here; set resources.gpus to 0" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cell: {epoch: 3}", ["line 1", "epoch", "epochs"]),
        ("axes: {prune_rate: [0, 1]}", ["line 1", "prune_rate", "1"]),
        ("axes: {prune_rate: []}", ["prune_rate"]),
        ("cell: {pruner: rigel}", ["rigel", "rigl"]),
        ("cell: [", ["line 1"]),
    ],
)
def test_a_wrong_grid_is_one_sentence_and_starts_nothing(
    text: str,
    parts: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = starts_nothing(text, tmp_path, capsys, monkeypatch)
    assert all(part in told for part in ["grid.yaml", *parts])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (
            ["run", "nowhere.yaml", "--budget", "1h", "--budget", "90m"],
            "--budget 90m: a time is given already",
        ),
        (["run", "nowhere.yaml", "--budget", "0h"], "--budget 0h lasts for nothing; give more than 0"),
        (["plan", "nowhere.yaml", "--gpus", "4", "--workers", "2"], "--gpus and --workers both say how many cells"),
        (["analyze", "nowhere"], "nowhere"),
        (["status", "nowhere"], "sweep.yaml"),
        (["store", "verify", "nowhere"], "nowhere holds no store of a sweep; a sweep's own is OUTPUT/NAME/store"),
        (["ui", "nowhere"], "there is no folder nowhere"),
        (["methods", "rigel"], "no method is named 'rigel'"),
        (["diff", "abc", "def", "--output", "nowhere"], "'abc' is neither a grid file nor a cell_id"),
        (["ui", "nowhere"], "mlflow.db"),
        (["ui", "--output", "nowhere"], "mlflow.db"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part in refused(capsys, monkeypatch, *arguments)


def test_ctrl_c_outside_of_training_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(views, "analyze", interrupted)
    monkeypatch.setattr(sys, "argv", ["swast", "analyze", "folder"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "swast: interrupted; what is trained is kept, and the same command goes on\n"


def test_the_folder_is_named_whose_grid_needs_a_method_that_is_not_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweep.yaml").write_text("cell: {pruner: {name: somebodys}}\naxes: {seed: [0]}\n")
    told = refused(capsys, monkeypatch, "status", tmp_path)
    assert told.startswith(f"swast: {tmp_path}: sweep.yaml, line 1")
    assert "somebodys" in told


def test_a_second_run_of_one_sweep_says_who_holds_it(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(SweepBusyError, match=r"is in use by process \d+"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_doctor_finds_nothing_wrong_here() -> None:
    assert [finding for finding in examine() if not finding.fine] == []


def test_doctor_finds_a_package_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis

    monkeypatch.setattr(analysis, "__file__", str(tmp_path / "analysis" / "__init__.py"))
    wrong = [finding for finding in examine() if not finding.fine]
    assert [finding.what for finding in wrong] == ["package analysis"]
    assert "another package of that name" in wrong[0].detail


def test_methods_lists_everything_and_describes_one() -> None:
    told = call("methods")
    assert all(method.name in told for method in methods())
    assert "number in [0, 1]" in call("methods", "rigl")


METHODS = [method for kind in ("pruner", "selector") for method in methods(kind)]
READINGS = {
    *("rigl", "set", "gmp", "seven", "probmask", "screening", "lnpt", "channels", "rows", "lowrank"),
    *("gradmatch", "el2n", "grand", "emp", "ted", "pbcs", "infobatch", "prunefuse"),
}
"""What the papers leave open, by methods: their descriptions mark it as ours."""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.kind}-{method.name}")
def test_every_method_is_described(method: Method) -> None:
    told = call("methods", method.name)
    assert f"{method.name} ({method.kind}): {method.summary}" in told
    assert f"Acts: {method.when}" in told
    assert f"Costs: {method.cost}" in told
    assert f"Source: {method.source}" in told or method.name in ("none", "random")
    for setting in method.settings:
        assert setting.what or f"``{setting.name}" in method.description, setting.name
        assert re.search(r" in [\[(]|boolean| or ", setting.allowed), setting.allowed
    if method.name in READINGS:
        assert re.search(r"\b[Oo]ur\s+readings?:", method.description)


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_shows_the_tables_as_they_are(kind: str) -> None:
    assert markdown(kind) in (ROOT / "README.md").read_text()


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"swast (\w+)", text)) - COMMANDS == {"store"}
    for grid in set(re.findall(r"sweeps/grids/[\w-]+\.yaml", text)):
        assert (ROOT / grid).exists()


def test_a_store_is_listed_verified_and_cleaned(grid: Path, tmp_path: Path) -> None:
    run = ["run", grid, "--inline", "--output", tmp_path, "--set", "axes.seed=[0]"]
    call(*run)
    call(*run, "--set", "axes.selector=[el2n]", "--set", "axes.coreset_ratio=[1]")
    store = tmp_path / "tiny" / "store"
    assert "1 sweep" in call("store", "ls", store)
    assert "every checkpoint and every row is as it was written" in call("store", "verify", store)
    before = len(list(store.rglob("*.state")))
    assert "--yes removes them" in call("store", "gc", store)
    assert len(list(store.rglob("*.state"))) == before
    with held(tmp_path / "tiny"), pytest.raises(SweepBusyError, match="is in use by process"):
        call("store", "gc", store, "--yes")
    assert "removed" in call("store", "gc", store, "--yes")
    assert 2 <= len(list(store.rglob("*.state"))) < before
    assert "2 finished already, 0 to do" in call(
        *run, "--set", "axes.selector=[el2n]", "--set", "axes.coreset_ratio=[1]"
    )


def test_a_budget_ends_a_run_and_says_how_to_go_on(grid: Path, tmp_path: Path) -> None:
    told = call("run", grid, "--inline", "--output", tmp_path, "--budget", "0.1s")
    assert "The budget is used up" in told
    assert "nothing is lost. To go on: swast" in told
    assert re.search(r"cells done, 0 failed, \d+ to do", call("status", tmp_path / "tiny"))
    assert "12 of 12 cells done" in call("run", grid, "--inline", "--output", tmp_path)


def test_a_plan_shows_the_tree_and_simulates_machines(grid: Path, tmp_path: Path) -> None:
    told = call("plan", grid, "--output", tmp_path, "--gpus", "1000")
    assert "4 × epochs 1-1" in told
    assert "time on 1000 workers" in told
    assert "unknown until some cells have run" in told
    call("run", grid, "--inline", "--output", tmp_path)
    told = call("plan", grid, "--output", tmp_path, "--set", "axes.seed=[0,1,2]", "--workers", "2")
    assert re.search(r"seconds on one worker │ [\d.]+ of [\d.]+", told)


@pytest.mark.parametrize("method", [*methods(), cell()], ids=lambda method: method.name)
def test_every_setting_says_what_it_is(method: Method) -> None:
    assert all(setting.what for setting in method.settings)
