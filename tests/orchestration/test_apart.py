"""A call in another process: its result, its errors, its death; and what the driver of a sweep does not import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestration.apart import apart
from orchestration.errors import UsageError

ROOT = Path(__file__).parents[2]


def add(a: int, b: int) -> tuple[int, int]:
    sys.stdout.write("a library that talks\n")
    return a + b, os.getpid()


def refuse(sentence: str) -> None:
    raise UsageError(sentence)


def refuse_unspeakably() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("what happened")


def die() -> None:
    os._exit(7)


def sleep() -> None:
    time.sleep(60)


def test_the_result_comes_back_from_another_process() -> None:
    with apart(add, 2, 3) as answer:
        total, process = answer()
    assert total == 5
    assert process != os.getpid()


def test_an_error_is_raised_here_as_it_was_there() -> None:
    with pytest.raises(UsageError, match="no such grid"), apart(refuse, "no such grid") as answer:
        answer()


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match="LocalError: what happened"), apart(refuse_unspeakably) as answer:
        answer()


def test_a_death_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="status 7 and no word"), apart(die) as answer:
        answer()


def test_a_package_of_the_working_directory_does_not_stand_in_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orchestration").mkdir()
    (tmp_path / "orchestration" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    with apart(add, 2, 3) as answer:
        assert answer()[0] == 5


def test_who_does_not_wait_ends_it() -> None:
    started = time.monotonic()
    with apart(sleep):
        pass
    assert time.monotonic() - started < 30


def test_the_driver_of_a_sweep_does_without_torch() -> None:
    modules = ("cli", "tuning", "sink", "trainable", "search")
    code = "; ".join(f"import orchestration.{name}" for name in modules)
    code += "; import sys, analysis.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_nor_does_reading_a_grid_of_image_files_load_it(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(20):
                (tmp_path / split / name / f"{k}.png").touch()
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"cell: {{data: {{name: image_folder, root: {tmp_path}}}, selector: random, coreset_ratio: 0.5}}")
    code = f"import sys; from sweeps.spec import load; load({str(grid)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
