"""What each ``swast`` command does. Commands print through the console they are given; nothing else here prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from core.config import CellConfig, from_dict
from orchestration import catalogue
from orchestration.errors import UsageError
from orchestration.inline import run_inline
from orchestration.observer import Observer, Observers
from orchestration.progress import Progress
from orchestration.sweep import Sweep, held, prepare, write_json
from sweeps import cells as grid
from sweeps.cells import Cell
from sweeps.plan import Plan, make_plan
from sweeps.spec import load

INTERRUPTED = 130


@dataclass(frozen=True)
class Target:
    """Where a sweep runs and where it is tracked."""

    address: str | None = None
    inline: bool = False
    tracking_uri: str | None = None


def run(file: Path, overrides: Sequence[str], output: Path, target: Target, console: Console) -> int:
    """Run what is not finished, then write tables, figures and report. 0 done, 1 some cells failed, 130 interrupted."""
    spec = load(file, overrides)
    with held(output / spec.name):
        sweep = prepare(spec, output)
        todo = sweep.to_do()
        _write_plan(sweep, todo)
        _announce(sweep, todo, console)
        interrupted = False
        with _tracking(sweep, target) as tracker:
            if todo:
                interrupted = _run_cells(sweep, todo, target, tracker, console)
            headline = _conclude(sweep, console)
            if tracker is not None:
                _close_tracking(tracker, headline, target, console)
    left = [cell for cell in sweep.to_do() if sweep.store.failure(cell.cell_id) is None]
    if interrupted or left:
        command = " ".join(["swast", *sys.argv[1:]])
        console.print(f"Stopped with {len(left)} cells to do; nothing is lost. To go on: [bold]{command}[/bold]")
        return INTERRUPTED
    return 1 if len(sweep.to_do()) else 0
