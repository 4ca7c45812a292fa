"""A command and all processes below it, watched from outside through /proc (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SWAST = (sys.executable, "-c", "from orchestration.cli import main; main()")
"""The ``swast`` command of this working tree."""
INTERVAL = 0.25
"""Seconds between two looks: an actor lives longer, and looking takes some milliseconds."""
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class CommandError(RuntimeError):
    """A command that was to be timed failed."""


@dataclass(frozen=True)
class Watched:
    """What a command took. ``began``: Unix time of its start.

    ``peak_mb``: most memory of its first process alone. ``actors``: distinct processes that ran a Ray actor or task.
    """

    began: float
    seconds: float
    peak_mb: float
    actors: int


def watch(command: Sequence[str], log: Path) -> Watched:
    """Run a command to its end, its output in ``log``. Raises ``CommandError`` when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    actors, peak = set[int](), 0.0
    with log.open("w") as file:
        began, started = time.time(), time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=file, stderr=file)
        while True:
            try:
                process.wait(INTERVAL)
                break
            except subprocess.TimeoutExpired:
                actors |= set(busy_workers(process.pid))
                peak = max(peak, peak_mb(process.pid))
        seconds = time.perf_counter() - started
    if process.returncode:
        raise CommandError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return Watched(began, seconds, peak, len(actors))


def busy_workers(root: int) -> Iterator[int]:
    """Ray's worker processes below a process that were given something to do: Ray writes it into their title."""
    for pid in below(root):
        title = _read(f"/proc/{pid}/cmdline").rstrip("\0 ")
        if title.startswith("ray::") and title != "ray::IDLE" and not title.endswith("Agent"):
            yield pid


def below(root: int) -> Iterator[int]:
    """A process's children, theirs, and so on."""
    for thread in _listed(f"/proc/{root}/task"):
        for child in _read(f"/proc/{root}/task/{thread}/children").split():
            yield int(child)
            yield from below(int(child))


def peak_mb(pid: int) -> float:
    """The most resident memory that a process had so far, in MB (10^6 bytes); 0 when it is gone."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
