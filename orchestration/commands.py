"""What each ``swast`` command does. Commands print through the console they are given; nothing else here prints."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis import report as reporting
from core.config import CellConfig, from_dict
from orchestration import catalogue
from orchestration.dispatch import Budget, Dispatch
from orchestration.doctor import examine
from orchestration.errors import UsageError
from orchestration.files import write_atomically
from orchestration.inline import run_inline
from orchestration.observer import Observer, Observers
from orchestration.progress import EpochLines, Progress
from orchestration.provenance import provenance
from orchestration.speech import say
from orchestration.sweep import Sweep, held, prepare
from orchestration.tables import totals, write_tables
from orchestration.tracking import Tracker
from sweeps.cells import Cell, common, difference, expand
from sweeps.plan import Plan, make_plan
from sweeps.spec import SweepSpec, load

INTERRUPTED = 130


@dataclass(frozen=True)
class Target:
    """Where a sweep runs and where it is tracked."""

    address: str | None = None
    inline: bool = False
    tracking_uri: str | None = None
    store: str | None = None
    sharing: bool = True
    budget: Budget | None = None

    def uri(self, sweep: Sweep) -> str | None:
        """The MLflow address; ``None`` without tracking (always so in this process, where MLflow may be missing)."""
        if self.inline or self.tracking_uri == "none":
            return None
        return self.tracking_uri or local_uri(sweep.folder)


def local_uri(folder: Path) -> str:
    """The database beside a sweep's output."""
    return f"sqlite:///{folder.resolve()}/mlflow.db"


def run(file: Path, overrides: Sequence[str], output: Path, target: Target, console: Console) -> int:
    """Run what is not finished, then write tables, figures and report. 0 done, 1 some cells failed, 130 interrupted."""
    spec = load(file, overrides)
    with held(output / spec.name):
        sweep = prepare(spec, output, store=target.store, sharing=target.sharing)
        todo = sweep.to_do()
        plan = _write_plan(sweep)
        _announce(sweep, todo, console)
        with _tracking(target.uri(sweep), sweep) as tracker:
            _run_cells(sweep, plan, todo, target, tracker, console)
            headline = _conclude(sweep, console)
            if tracker is not None:
                _close_tracking(tracker, headline, console)
    return _farewell(sweep, console)


def _run_cells(
    sweep: Sweep, plan: Plan, todo: Sequence[Cell], target: Target, tracker: Tracker | None, console: Console
) -> None:
    if not todo:
        return
    cells = {cell.cell_id: cell for cell in todo}
    with Progress(cells, plan.shared.flop, len(sweep.cells.cells) - len(todo), console) as progress:
        observer: Observer = progress if tracker is None else Observers((progress, tracker))
        dispatch = Dispatch(sweep, plan, todo, observer, target.budget)
        try:
            if target.inline:
                run_inline(dispatch)
            else:
                from orchestration.launch import run_on_ray

                run_on_ray(dispatch, todo, target.address)
        except KeyboardInterrupt:
            say(console, "Interrupted; writing what is finished.")
        if dispatch.exhausted and not dispatch.over:
            say(console, "The budget is used up; writing what is finished.")


@contextmanager
def _tracking(uri: str | None, sweep: Sweep) -> Iterator[Tracker | None]:
    if uri is None:
        yield None
        return
    tracker = Tracker(sweep, uri)
    tracker.start()
    yield tracker


def _close_tracking(tracker: Tracker, headline: Mapping[str, float], console: Console) -> None:
    lacking = tracker.close(headline)
    if lacking or tracker.error:
        why = tracker.error or "it is slow to answer"
        say(console, f"MLflow lacks {lacking} cells ({why}). Nothing is lost: run the same command again.", "warning")


def _write_plan(sweep: Sweep) -> Plan:
    """The plan of what is to do now, and the resolved grid, kept beside the results."""
    plan = _plan(sweep)
    write_atomically(sweep.folder / "sweep.yaml", sweep.spec.text.encode())
    told = {"common": common(cell.config for cell in sweep.cells.cells), "environment": provenance(sweep.devices)}
    write_atomically(sweep.folder / "plan.json", (json.dumps(told | plan.as_dict(), indent=1) + "\n").encode())
    return plan


def _plan(sweep: Sweep) -> Plan:
    todo = sweep.to_do()
    finished = {cell.cell_id for cell in sweep.cells.cells} - {cell.cell_id for cell in todo}
    return make_plan(sweep.spec, finished, sweep.chains, sweep.done(todo))


def _announce(sweep: Sweep, todo: Sequence[Cell], console: Console) -> None:
    cells = sweep.cells
    counts = f"{cells.listed} cells listed, {len(cells.cells)} distinct with their baselines"
    done = len(cells.cells) - len(todo)
    say(console, f"{counts}, {done} finished already, {len(todo)} to do", f"{sweep.spec.name}:")


def _conclude(sweep: Sweep, console: Console) -> dict[str, float]:
    """Tables, figures and report of what is finished; the headline numbers."""
    if not write_tables(sweep)[0]:
        return {}
    spent = totals(sweep)
    alone, executed = spent["alone/flops_dense"], spent["executed/flops_dense"]
    if executed < alone:
        saved = f"{1 - executed / alone:.0%} of the compute saved by epochs that cells share"
        say(console, f"{executed:.3g} FLOP executed in place of {alone:.3g}: {saved}")
    return _report(sweep.folder, console) | spent


def _report(folder: Path, console: Console) -> dict[str, float]:
    result = reporting.write(reporting.analyze(folder), command=f"swast analyze {folder}")
    for note in result.notes:
        say(console, note, "note")
    maps = [path for path in result.files if path.suffix == ".png" and path.name.startswith("bliss")]
    for kind, path in (*(("heat map", path) for path in maps), ("report", folder / "report.html")):
        say(console, f"{kind:9s} {path}")
    return dict(result.headline.numbers())


def _farewell(sweep: Sweep, console: Console) -> int:
    left = sweep.to_do()
    failed = {cell.cell_id: reason for cell in left if (reason := sweep.store.failure(cell.cell_id)) is not None}
    for cell_id, reason in failed.items():
        say(console, f"{cell_id}: {reason}", "failed")
    if len(left) > len(failed):
        command = shlex.join(["swast", *sys.argv[1:]])
        say(console, f"Stopped with {len(left) - len(failed)} cells to do; nothing is lost. To go on: {command}")
        return INTERRUPTED
    return 1 if failed else 0


def train(file: Path, overrides: Sequence[str], output: Path, console: Console) -> int:
    """Train the one cell of a file in this process, a line per epoch."""
    spec = load(file, (*overrides, "baselines=false"))
    cells = expand(spec).cells
    if len(cells) != 1:
        raise UsageError(
            f"{file} has {len(cells)} cells; swast train takes one: fix every axis with --set, or use swast run"
        )
    spec = replace(spec, name=f"{spec.name}-{cells[0].cell_id}")  # the tables of a sweep of that name stay as they are
    with held(output / spec.name):
        sweep = prepare(spec, output)
        plan = _write_plan(sweep)
        if not sweep.to_do():
            say(console, f"cell {sweep.cells.cells[0].cell_id} is finished already")
        run_inline(Dispatch(sweep, plan, sweep.to_do(), EpochLines(console)))
        write_tables(sweep)
    say(console, f"tables and checkpoints: {sweep.folder}")
    return _farewell(sweep, console)


def plan(file: Path, overrides: Sequence[str], output: Path, console: Console) -> None:
    """Print what a run would do now."""
    spec = load(file, overrides)
    made = make_plan(spec, _finished(spec, output))
    table = Table(title=f"plan of {spec.name}", title_justify="left", show_header=False)
    for name, value in made.rows():
        table.add_row(name, value)
    console.print(table)
    for warning in made.warnings:
        say(console, warning, "warning")


def _finished(spec: SweepSpec, output: Path) -> frozenset[str]:
    """Finished cells of the sweep; nothing is loaded where it never ran."""
    if not (output / spec.name / "store").is_dir():
        return frozenset()
    sweep = prepare(spec, output)
    return frozenset(cell.cell_id for cell in sweep.cells.cells) - {cell.cell_id for cell in sweep.to_do()}


def status(folder: Path, console: Console) -> None:
    """Print how far the sweep in a folder is."""
    folder = folder.resolve()
    sweep = prepare(load(_resolved(folder), (f"name={folder.name}",)), folder.parent)
    left = sweep.to_do()
    failed = {cell.cell_id: reason for cell in left if (reason := sweep.store.failure(cell.cell_id)) is not None}
    total = len(sweep.cells.cells)
    say(console, f"{sweep.spec.name}: {total - len(left)} of {total} cells done, {len(failed)} failed")
    for cell_id, reason in failed.items():
        say(console, f"{cell_id}: {reason}", "failed")


def _resolved(folder: Path) -> Path:
    path = folder / "sweep.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} holds no sweep.yaml; give the output folder of a sweep, such as outputs/quickstart")
    return path


def analyze(folder: Path, console: Console) -> None:
    """Draw and report any folder with the two tables."""
    _report(folder, console)


def methods(name: str | None, console: Console) -> None:
    """List the plug-ins, or describe those of one name."""
    everything = (*catalogue.methods(), catalogue.cell()) if name else catalogue.methods()
    found = [method for method in everything if name in (None, method.name)]
    if not found:
        known = ", ".join(sorted({method.name for method in everything}))
        raise UsageError(f"no method is named {name!r}; known: {known}")
    for method in found if name else ():
        _describe(method, console)
    if name is None:
        table = Table("kind", "name", "what it does", "settings")
        for method in found:
            table.add_row(method.kind, method.name, method.summary, ", ".join(s.name for s in method.settings))
        console.print(table)
        say(console, "swast methods NAME describes one, swast methods cell the fields of a run")


def _describe(method: catalogue.Method, console: Console) -> None:
    say(console, f"({method.kind}): {method.summary}", method.name)
    if method.description:
        say(console, method.description)
    if method.source:
        say(console, f"Source: {method.source}")
    told = any(setting.what for setting in method.settings)
    table = Table("setting", "default", "allowed", *(["what it is"] if told else []))
    for setting in method.settings:
        row = (setting.name, setting.default, setting.allowed, setting.what)
        table.add_row(*row[: 3 + told])
    console.print(table)


def diff(a: str, b: str, output: Path, console: Console) -> None:
    """Print the fields in which two cells differ."""
    changes = difference(_cell(a, output), _cell(b, output))
    if not changes:
        say(console, "the two are the same cell")
        return
    table = Table("field", a, b)
    for field, (left, right) in changes.items():
        table.add_row(field, _written(left), _written(right))
    console.print(table)


def _written(value: object) -> str:
    return "" if value is None else str(value)


def _cell(name: str, output: Path) -> CellConfig:
    if Path(name).is_file():
        return _only_cell(Path(name))
    for path in sorted(output.glob("*/plan.json")):
        cells = json.loads(path.read_text())["cells"]
        if name in cells:
            return from_dict(cells[name])
    raise UsageError(
        f"{name!r} is neither a grid file nor a cell_id of a sweep below {output}; see runs.parquet or MLflow"
    )


def _only_cell(file: Path) -> CellConfig:
    cells = expand(load(file, ("baselines=false",))).cells
    if len(cells) != 1:
        raise UsageError(f"{file} has {len(cells)} cells; swast diff compares single cells: name them by cell_id")
    return cells[0].config


def ui(folder: Path | None, port: int, output: Path, console: Console) -> None:
    """Become the MLflow server of a sweep, on the loopback interface: what ends this process ends it."""
    database = (folder or _newest(output)) / "mlflow.db"
    if not database.is_file():
        raise UsageError(f"{database.parent} holds no mlflow.db: it was run with --inline or another --tracking-uri")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UsageError(f"port {port} is in use; choose another with --port")
    say(console, f"{database.parent}: http://127.0.0.1:{port}/#/experiments/1/runs (Ctrl-C ends it)")
    uri = local_uri(database.parent)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--port", str(port), "--workers", "1"])


def _newest(output: Path) -> Path:
    databases = sorted(output.glob("*/mlflow.db"), key=lambda path: path.stat().st_mtime)
    if not databases:
        raise UsageError(f"no sweep below {output} has an mlflow.db; run one first, such as make quickstart")
    return databases[-1].parent


def doctor(console: Console) -> int:
    """Print every finding. 0 when all are fine."""
    findings = examine()
    for finding in findings:
        say(console, f"{finding.what}: {finding.detail}", "ok" if finding.fine else "BAD")
    return 0 if all(finding.fine for finding in findings) else 1
