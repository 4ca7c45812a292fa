"""What is wrong with an installation, if anything."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

OURS = ("core", "sweeps", "orchestration", "analysis")
NEEDED = (
    "torch",
    "torchvision",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "pydantic",
    "safetensors",
    "matplotlib",
    "plotly",
    "numpy",
    "torch_pruning",
    "optuna",
    "yaml",
    "typer",
    "rich",
    "PIL",
    "jinja2",
    "fsspec",
)
FOR_SWEEPS = ("ray", "mlflow")
FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    fine: bool
    detail: str


def examine() -> tuple[Finding, ...]:
    """Look at everything; nothing is changed or started."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _packages, _libraries, _torch, _methods, _disk)
    return tuple(finding for check in checks for finding in check())


def _python() -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), f"{running}; 3.11 or newer is needed")


def _packages() -> Iterator[Finding]:
    """Our packages have common names: another ``core`` on the path would be imported instead."""
    here = Path(__file__).resolve().parent.parent
    for name in OURS:
        file = importlib.import_module(name).__file__
        ours = file is not None and Path(file).resolve().parent.parent == here
        detail = (
            str(file) if ours else f"{file} is another package of that name; remove it, or put {here} first on the path"
        )
        yield Finding(f"package {name}", ours, detail)


def _libraries() -> Iterator[Finding]:
    distributions = packages_distributions()
    for name in (*NEEDED, *FOR_SWEEPS):
        try:
            importlib.import_module(name)
        except Exception as error:
            hint = "; swast run --inline works without it" if name in FOR_SWEEPS else ""
            yield Finding(
                name,
                False,
                f"cannot be imported ({error}){hint}; run pip install --constraint constraints.txt --editable .",
            )
        else:
            yield Finding(name, True, ", ".join(dict.fromkeys(map(version, distributions.get(name, ())))))


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision
    except ImportError:
        return
    try:
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except RuntimeError as error:
        yield Finding(
            "torch with torchvision", False, f"they do not fit together ({error}); install both of one release"
        )
    else:
        yield Finding("torch with torchvision", True, "operators load")
    cuda = f"{torch.cuda.device_count()} CUDA device(s)" if torch.cuda.is_available() else "no CUDA device; CPU is used"
    yield Finding("devices", True, f"{cuda}, {os.cpu_count()} CPU cores")


def _methods() -> Iterator[Finding]:
    """Methods that other packages bring."""
    from core.methods import OFFERS

    for kind, offers in OFFERS.items():
        for name, cls in offers.classes.items():
            yield Finding(f"{kind} {name}", True, f"of {cls.distribution}")
        for refusal in offers.refused:
            yield Finding(f"{kind} {refusal.name}", False, str(refusal))


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk", free >= FREE_BYTES, f"{free / 1024**3:.1f} GiB free here; a sweep wants 2 GiB or more")
    shared = Path("/dev/shm")
    if shared.exists():
        room = shutil.disk_usage(shared).free
        detail = f"{room / 1024**3:.1f} GiB free in {shared}; Ray's object store wants as much as the data set, twice"
        yield Finding("shared memory", room >= FREE_BYTES // 4, detail)
    try:
        with tempfile.NamedTemporaryFile(dir=Path.cwd()):
            pass
    except OSError as error:
        yield Finding("writing", False, f"this folder cannot be written ({error}); run from another, or give --output")
