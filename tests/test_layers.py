"""Imports go one way, heavy libraries stay where they belong, and functions fit on a screen."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "core": {"core"},
    "analysis": {"analysis"},
    "sweeps": {"sweeps", "core", "analysis"},
    "orchestration": {"orchestration", "sweeps", "core", "analysis"},
}
AT_HOME = {
    "ray": ("orchestration/",),
    "mlflow": ("orchestration/",),
    "matplotlib": ("analysis/figures/",),
    "plotly": ("analysis/figures/",),
    "optuna": ("sweeps/", "orchestration/"),
}
LONGEST = 40


def sources() -> Iterator[Path]:
    for package in MAY_IMPORT:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", list(sources()), ids=name_of)
def test_every_file_keeps_to_its_layer(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        top = module.partition(".")[0]
        assert top not in MAY_IMPORT or top in MAY_IMPORT[package], f"{name_of(path)} imports {module}"
        homes = AT_HOME.get(top)
        assert homes is None or name_of(path).startswith(homes), f"{name_of(path)} imports {module}"


def test_no_imports_go_in_a_circle() -> None:
    """Those for types included."""
    modules = {
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources()
    }
    uses = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported(path)}
        for module, path in modules.items()
    }
    assert set(TopologicalSorter(uses).static_order()) >= modules.keys()  # a CycleError names them
    with pytest.raises(CycleError):
        TopologicalSorter(uses | {"core.rng": {"core.trainer"}}).prepare()


@pytest.mark.parametrize("path", list(sources()), ids=name_of)
def test_every_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert length <= LONGEST, f"{name_of(path)}: {node.name} has {length} lines"


def loaded_after(statement: str, modules: tuple[str, ...]) -> list[str]:
    code = f"import sys\n{statement}\nprint(*[m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


def test_planning_and_analysis_load_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "matplotlib", "plotly", "scipy.stats")
    assert loaded_after("import sweeps.spec, sweeps.cells, sweeps.plan, analysis.report", heavy) == []


def test_the_command_line_starts_without_ray_and_mlflow() -> None:
    assert (
        loaded_after("import orchestration.cli, orchestration.inline", ("ray", "mlflow", "optuna", "scipy.stats")) == []
    )


def test_training_does_without_pytorchs_compiler() -> None:
    """To load it takes a second and 150 MB of each worker."""
    code = """
from core.config import CellConfig
from core.coresets import EL2N
from core.data.load import load_bundle
from core.data import Synthetic
from core.models import SmallCnn
from core.pruning import RigL
from core.trainer import Trainer

data = Synthetic(samples=40, test_samples=10, size=8)
cell = CellConfig(
    data=data, model=SmallCnn(width=2), epochs=4, warmup_epochs=1, select_every=2, coreset_ratio=0.5, prune_rate=0.5,
    pruner=RigL(update_every=1), selector=EL2N(),
)
list(Trainer(cell, load_bundle(data)).events())
"""
    assert loaded_after(code, ("torch", "torch._dynamo")) == ["torch"]
