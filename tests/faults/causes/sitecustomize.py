"""Faults inside the processes of a sweep: Python loads this first where the folder is on PYTHONPATH.

The files in the folder ``SWAST_FAULTS`` say what happens; without that variable nothing does. Each ``*-ACTION.fault``
happens once, in their order: a process that selects a coreset with EL2N claims the first by renaming it to
``*-ACTION.PID``. While there is a file ``clock``, time runs backwards from the moment it was made, in every process.
"""

import os
import re
import sys
import time
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

FOLDER = Path(os.environ.get("SWAST_FAULTS", "/nowhere"))
WATCHED = "core.coresets.el2n"


def claimed() -> Path | None:
    for path in sorted(FOLDER.glob("*.fault")):
        mine = path.with_suffix(f".{os.getpid()}")
        try:
            path.rename(mine)
        except FileNotFoundError:
            continue  # another process was first
        return mine
    return None


def happen(path: Path) -> None:
    action = path.stem.partition("-")[2]
    if action == "raise":
        raise RuntimeError("caused by a test")
    if action == "sleep":
        time.sleep(3600)
    if action == "spin":  # in C, with the interpreter's lock held: no thread of Python gets a turn
        re.match(r"(a+)+$", 64 * "a" + "b")
    while action == "hold" and path.exists():
        time.sleep(0.02)


def disturb(module: ModuleType) -> None:
    select = module.EL2N.select

    def disturbed(*arguments: object, **options: object) -> object:
        path = claimed()
        if path is not None:
            happen(path)
        return select(*arguments, **options)

    module.EL2N.select = disturbed


class Finder:
    """Disturbs the watched module as soon as it is imported, wherever it lies."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == WATCHED else None
        if spec is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                disturb(module)

            spec.loader.exec_module = executed
        return spec


def backwards() -> float:
    now = true_time()
    try:
        turned = (FOLDER / "clock").stat().st_mtime
    except OSError:
        return now
    return 2 * turned - now


if FOLDER.is_dir():
    sys.meta_path.insert(0, Finder)
    true_time, time.time = time.time, backwards
