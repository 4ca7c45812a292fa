"""The ``swast`` command."""

from __future__ import annotations

import atexit
import gc
import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis.counterfactual import FEWEST
from analysis.runs import TableError
from core.data.source import DataError
from orchestration import budget as budgets
from orchestration import commands, confirmation, views
from orchestration import submit as submission
from orchestration.errors import UsageError
from orchestration.files import StoreError
from orchestration.launch import ClusterError
from orchestration.redaction import without_secrets
from orchestration.sweep import SweepBusyError
from sweeps.spec import SpecError, load

app = typer.Typer(
    name="swast",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    pretty_exceptions_enable=False,
)
keep = typer.Typer(help="Look after the checkpoints of sweeps.", no_args_is_help=True)
app.add_typer(keep, name="store")
EXPECTED = (SpecError, DataError, TableError, StoreError, ClusterError, SweepBusyError, UsageError)

File = Annotated[Path, typer.Argument(help="A grid file (YAML).")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated.")]
Output = Annotated[Path, typer.Option(help="Folder that holds one folder per sweep.")]
Place = Annotated[
    str | None, typer.Option("--store", help="Folder or URL (s3://...) of the checkpoints; by default in the output.")
]
Held = Annotated[str, typer.Argument(help="A store: outputs/NAME/store, or what --store named.")]
Folder = Annotated[Path, typer.Argument(help="A sweep's output folder.")]


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"swast-sweep {importlib.metadata.version('swast-sweep')}", highlight=False)
        raise typer.Exit


@app.callback()
def swast(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sweep weight pruning x coreset selection, and see where the two help or break each other."""


@app.command()
def run(
    file: File,
    set_: Set = None,
    output: Output = Path("outputs"),
    address: Annotated[str | None, typer.Option(help="Ray cluster to run on; a local Ray by default.")] = None,
    inline: Annotated[
        bool, typer.Option("--inline", metavar="", help="In this process, without Ray and MLflow.")
    ] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server or database; 'none' for none; by default beside the output.")
    ] = None,
    store: Place = None,
    sharing: Annotated[
        bool, typer.Option("--sharing/--no-sharing", metavar="", help="Train epochs that cells share once.")
    ] = True,
    budget: Annotated[
        list[str] | None, typer.Option(help="Stop cleanly after e.g. 2h or 3PFLOP; may be given for each.")
    ] = None,
) -> None:
    """Run a grid: what is not finished yet. The same command again resumes, or does nothing."""
    target = commands.Target(address, inline, tracking_uri, store, sharing, budgets.parse(budget or ()))
    raise typer.Exit(commands.run(file, tuple(set_ or ()), output, target, Console()))


@app.command()
def submit(
    file: File,
    address: Annotated[str, typer.Option(help="Ray's job server, such as http://HEAD:8265.")],
    output: Annotated[Path, typer.Option(help="Output folder on the cluster, one that all its nodes share.")],
    set_: Set = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow server, as the cluster reaches it.")] = None,
    store: Place = None,
    budget: Annotated[list[str] | None, typer.Option(help="As in swast run.")] = None,
    follow: Annotated[bool, typer.Option(metavar="", help="Print the job's log until it ends.")] = True,
) -> None:
    """Hand a grid to a Ray cluster as a job; this machine may go."""
    given = submission.options(tuple(set_ or ()), output, tracking_uri, store, tuple(budget or ()))
    job = submission.Submission(file, given)
    raise typer.Exit(submission.submit(job, address, Console(), follow=follow))


@app.command()
def train(file: File, set_: Set = None, output: Output = Path("outputs")) -> None:
    """Train one cell in this process and print its epochs."""
    raise typer.Exit(commands.train(file, tuple(set_ or ()), output, Console()))


@app.command()
def plan(
    file: File,
    set_: Set = None,
    output: Output = Path("outputs"),
    store: Place = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Foretell the time on so many GPUs, a whole one for a cell that asks for none."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Foretell the time of so many cells at once.")] = None,
) -> None:
    """Say what would run: cells, what they share, epochs, FLOPs, time, warnings. Starts nothing."""
    if gpus is not None and workers is not None:
        raise UsageError("--gpus and --workers both say how many cells run at once; give one of them")
    spec = load(file, tuple(set_ or ()))
    slots = workers if gpus is None else max(1, int(gpus / (spec.resources.gpus or 1.0)))
    views.plan(spec, output, store, slots, Console())


@app.command()
def status(folder: Folder) -> None:
    """Say how far a sweep is: done, failed with reasons, to do."""
    views.status(folder, Console())


@app.command()
def analyze(folder: Folder) -> None:
    """Find collapse events, draw surfaces, heat maps and the report of any folder with a runs table.

    Events need a history table too.
    """
    views.analyze(folder, Console())


@app.command()
def confirm(
    folder: Folder,
    events: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT]...", help="CELL_ID-EPOCH, as swast analyze names events.")
    ] = None,
    cell: Annotated[str | None, typer.Option(help="cell_id of a joint cell, in place of EVENT.")] = None,
    epoch: Annotated[int | None, typer.Option(help="Its switch: the epoch that begins with a new coreset.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", metavar="", help="Every suspected double loss of collapse_events.json, the deepest first."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="With --all: at most so many.")] = None,
    orders: Annotated[
        int,
        typer.Option("--data-orders", "--seeds", min=FEWEST, help=f"Of each arm; a verdict takes {FEWEST} at least."),
    ] = 6,
    workers: Annotated[int, typer.Option(min=1, help="Processes that run arms at once.")] = 1,
    store: Place = None,
) -> None:
    """Say whether a collapse is a double loss, by experiment.

    From the checkpoint before the switch, four arms are trained: neither removal of the switch, the weights' only, the
    samples' only, both; each with the same new data orders (3 at least, or there is no verdict). Window: R epochs from
    the switch on; nothing more is removed up to the horizon, R epochs later. The verdict compares the accuracies there
    (95 % intervals): confirmed, amplified, refuted (samples_alone, weights_alone) or inconclusive, with the number of
    data orders that would decide.

    Arms that are done are not run again: more --data-orders add to them. Results: FOLDER/confirmations/ and figures/.
    """
    names = confirmation.chosen(tuple(events or ()), cell, epoch, everything=everything, limit=limit)
    raise typer.Exit(commands.confirm(folder, commands.Forks(names, limit, orders, workers), store, Console()))


@app.command()
def interplay(
    output: Annotated[Path, typer.Option(help="Folder for the figures and their numbers.")] = Path("outputs/interplay"),
    repetitions: Annotated[int, typer.Option(min=2, help="Draws of the noise.")] = 100,
) -> None:
    """Show why pruning and choosing samples touch each other, on Runge's function, beside the paper's values."""
    views.interplay(output, repetitions, Console())


@keep.command("ls")
def store_ls(place: Held) -> None:
    """Say what a store holds, and what of it any sweep's plan names."""
    views.store_ls(place, Console())


@keep.command("gc")
def store_gc(
    place: Held,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Remove; without it, only say what.")] = False,
) -> None:
    """Remove checkpoints that no plan names: those on the way, and cells that left their grid."""
    views.store_gc(place, Console(), really=yes)


@keep.command("verify")
def store_verify(place: Held) -> None:
    """Check every digest; what is damaged is set aside and trained again by the next run."""
    raise typer.Exit(views.store_verify(place, Console()))


@app.command()
def methods(name: Annotated[str | None, typer.Argument(help="One method.")] = None) -> None:
    """List what can be plugged in, or describe one method with its hyper-parameters."""
    views.methods(name, Console())


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A cell_id of a sweep, or a grid file of one cell.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    output: Output = Path("outputs"),
) -> None:
    """Say in which fields two cells differ."""
    views.diff(a, b, output, Console())


@app.command()
def ui(
    folder: Annotated[Path | None, typer.Argument(help="A sweep's output folder; the newest by default.")] = None,
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 5000,
    output: Output = Path("outputs"),
) -> None:
    """Browse a sweep's runs in the MLflow UI."""
    views.ui(folder, port, output, Console())


@app.command()
def doctor() -> None:
    """Say what is wrong with this installation, if anything."""
    raise typer.Exit(views.doctor(Console()))


def main() -> None:
    """Entry point: an expected error is one sentence on stderr and exit code 2."""
    atexit.register(gc.freeze)  # Python's last search for cycles would take seconds after Ray
    try:
        app()
    except EXPECTED as error:
        sys.stderr.write(f"swast: {without_secrets(str(error))}\n")
        sys.exit(2)
    except SystemExit as end:
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):  # of which Typer says nothing
            sys.stderr.write("swast: interrupted; what is trained is kept, and the same command goes on\n")
        raise


if __name__ == "__main__":
    main()
