"""The command as a process, faults in its workers, and what it must come to in the end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from orchestration.sweep import Sweep, prepare
from sweeps.spec import load
from tests.orchestration.grids import final_state, timeless

PATIENCE = 240
ROOT = Path(__file__).parents[2]
CAUSES = Path(__file__).parent / "causes"
TOKEN = secrets.token_hex(32)
"""Of the clusters of this process."""


class Ended(NamedTuple):
    """How a command ended, and all that it said on one line."""

    code: int
    said: str


class Faults:
    """What shall happen inside the workers (``causes/sitecustomize.py``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(CAUSES), str(ROOT)))
        return {**os.environ, "PYTHONPATH": path, "SWAST_FAULTS": str(self.folder), "RAY_AUTH_TOKEN": TOKEN}

    def cause(self, action: str, times: int = 1, after: int = 0) -> None:
        """The next selections shall do this, once ``after`` have done nothing."""
        number = len(list(self.folder.iterdir()))
        for place, name in enumerate([*["pass"] * after, *[action] * times]):
            (self.folder / f"{number + place:03d}-{name}.fault").touch()

    def hit(self, action: str) -> list[int]:
        """The processes in which it happened."""
        found = self.folder.glob(f"*-{action}.*")
        return [int(path.suffix[1:]) for path in found if path.suffix[1:].isdigit()]

    def release(self) -> None:
        """No process is held any longer."""
        for pid in self.hit("hold"):
            for path in self.folder.glob(f"*-hold.{pid}"):
                path.unlink()

    def turn_clock(self) -> None:
        (self.folder / "clock").touch()

    def clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()


class Command:
    """``swast`` as a process in a group of its own, as a terminal starts it."""

    def __init__(self, *arguments: str | Path, log: Path, environment: dict[str, str] | None = None) -> None:
        code = "from orchestration.cli import main; main()"
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    @property
    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def wait_until(self, condition: Callable[[], object]) -> None:
        def told() -> bool:
            assert self.process.poll() is None, self.said
            return bool(condition())

        wait_until(told)

    def end(self) -> Ended:
        self.process.wait(timeout=PATIENCE)
        return Ended(self.process.returncode, self.said)

    def interrupt(self) -> None:
        """Ctrl-C: a terminal tells the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from descendants(int(child))


def workers(pid: int) -> set[int]:
    """The processes below ``pid`` that train cells."""
    return {child for child in descendants(pid) if _title(child).startswith(b"ray::") and b"Trainable" in _title(child)}


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def sweep_of(grid: Path, output: Path, store: Path | None = None) -> Sweep:
    return prepare(load(grid), output, store=store)


def assert_same_results(disturbed: Sweep, undisturbed: Sweep) -> None:
    """The tables as they were written, but for times, and the last checkpoint of every cell to the byte."""
    assert disturbed.to_do() == ()
    for name in ("runs", "history"):
        ours, theirs = (pd.read_parquet(sweep.folder / f"{name}.parquet") for sweep in (disturbed, undisturbed))
        pd.testing.assert_frame_equal(timeless(ours), timeless(theirs))
    for cell in undisturbed.cells.cells:
        assert final_state(disturbed, cell) == final_state(undisturbed, cell)


def reasons(sweep: Sweep) -> dict[str, str]:
    """The failed rows of the runs table, as it was written: the reason by cell."""
    runs = pd.read_parquet(sweep.folder / "runs.parquet").set_index("cell_id")
    return dict(runs.loc[runs["status"] == "failed", "reason"])
