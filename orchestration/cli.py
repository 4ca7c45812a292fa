"""The ``swast`` command."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis.runs import TableError
from core.data.source import DataError
from orchestration import commands
from orchestration.errors import UsageError
from orchestration.files import StoreError
from orchestration.launch import ClusterError
from orchestration.sweep import SweepBusyError
from sweeps.spec import SpecError

app = typer.Typer(
    name="swast",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
EXPECTED = (SpecError, DataError, TableError, StoreError, ClusterError, SweepBusyError, UsageError)

File = Annotated[Path, typer.Argument(help="A grid file (YAML).")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated.")]
Output = Annotated[Path, typer.Option(help="Folder that holds one folder per sweep.")]
Folder = Annotated[Path, typer.Argument(help="A sweep's output folder.")]


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"swast-sweep {importlib.metadata.version('swast-sweep')}", highlight=False)
        raise typer.Exit


@app.callback()
def swast(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sweep weight pruning x coreset selection, and see where the two help or break each other."""


@app.command()
def run(
    file: File,
    set_: Set = None,
    output: Output = Path("outputs"),
    address: Annotated[str | None, typer.Option(help="Ray cluster to run on; a local Ray by default.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="In this process, without Ray and MLflow.")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server or database; 'none' for none; by default beside the output.")
    ] = None,
) -> None:
    """Run a grid: what is not finished yet. The same command again resumes, or does nothing."""
    target = commands.Target(address=address, inline=inline, tracking_uri=tracking_uri)
    raise typer.Exit(commands.run(file, tuple(set_ or ()), output, target, Console()))


@app.command()
def train(file: File, set_: Set = None, output: Output = Path("outputs")) -> None:
    """Train one cell in this process and print its epochs."""
    raise typer.Exit(commands.train(file, tuple(set_ or ()), output, Console()))


@app.command()
def plan(file: File, set_: Set = None, output: Output = Path("outputs")) -> None:
    """Say what would run: cells, epochs, FLOPs, warnings. Starts nothing."""
    commands.plan(file, tuple(set_ or ()), output, Console())


@app.command()
def status(folder: Folder) -> None:
    """Say how far a sweep is: done, failed with reasons, to do."""
    commands.status(folder, Console())


@app.command()
def analyze(folder: Folder) -> None:
    """Draw surfaces, synergy heat maps and the report of any folder that holds a runs and a history table."""
    commands.analyze(folder, Console())


@app.command()
def methods(name: Annotated[str | None, typer.Argument(help="One method.")] = None) -> None:
    """List what can be plugged in, or describe one method with its hyper-parameters."""
    commands.methods(name, Console())


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A cell_id of a sweep, or a grid file of one cell.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    output: Output = Path("outputs"),
) -> None:
    """Say in which fields two cells differ."""
    commands.diff(a, b, output, Console())


@app.command()
def ui(
    folder: Annotated[Path | None, typer.Argument(help="A sweep's output folder; the newest by default.")] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 5000,
    output: Output = Path("outputs"),
) -> None:
    """Browse a sweep's runs in the MLflow UI."""
    commands.ui(folder, port, output, Console())


@app.command()
def doctor() -> None:
    """Say what is wrong with this installation, if anything."""
    raise typer.Exit(commands.doctor(Console()))


def main() -> None:
    """Entry point: an expected error is one sentence on stderr and exit code 2."""
    try:
        app()
    except EXPECTED as error:
        sys.stderr.write(f"swast: {error}\n")
        sys.exit(2)
