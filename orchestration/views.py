"""The commands that look and start nothing: plan, status, analyze, interplay, methods, diff, store, ui, doctor."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from analysis import events
from analysis import report as reporting
from analysis.dynamics import Dynamics
from analysis.frontier import sentences
from analysis.settings import PLAN
from core.config import CellConfig, from_dict
from orchestration import catalogue, keeping
from orchestration.branches import branched
from orchestration.doctor import examine
from orchestration.errors import UsageError
from orchestration.pace import pace
from orchestration.progress import clock
from orchestration.speech import Line, say
from orchestration.store import Store
from orchestration.sweep import LOCK, Sweep, held, own_store, prepare
from sweeps.cells import difference, expand
from sweeps.plan import Plan, make_plan
from sweeps.sharing import Shape, shapes
from sweeps.spec import SpecError, SweepSpec, load

ALONE = ("baselines=false", "on_collapse=null", "frontier=null")
"""What a grid file must not ask for where it stands for a single cell."""
BRANCHES = 4
"""Branches of one kind of trunk that the tree of a plan names; the rest are counted."""


def local_uri(folder: Path) -> str:
    """The database beside a sweep's output."""
    return f"sqlite:///{folder.resolve()}/mlflow.db"


def planned(sweep: Sweep) -> Plan:
    """What is to do now, with what is stored already, at the pace of what has run."""
    sweep = sweep.snapshot()
    todo = sweep.to_do()
    finished = {cell.cell_id for cell in sweep.cells.cells} - {cell.cell_id for cell in todo}
    plan = make_plan(sweep.spec, finished, sweep.chains, sweep.done(todo), sweep.cells)
    return replace(plan, pace=pace(sweep, plan)) if plan.done or finished else plan


def plan(spec: SweepSpec, output: Path, store: str | None, workers: int | None, console: Console) -> None:
    """Print what a run would do now; nothing is loaded where it never ran."""
    ran = store is not None or (output / spec.name / "store").is_dir()
    made = planned(prepare(spec, output, store=store)) if ran else make_plan(spec)
    table = Table(title=f"plan of {spec.name}", title_justify="left", show_header=False)
    for name, value in (*made.rows(), *_simulated(made, workers)):
        table.add_row(name, value)
    console.print(table)
    console.print(_tree(made))
    for warning in made.warnings:
        say(console, warning, "warning")


def _simulated(made: Plan, workers: int | None) -> Iterable[tuple[str, str]]:
    if workers is None or not made.chains:
        return
    found, one = made.simulate(workers), made.simulate(1)
    if made.pace is None:
        makespan, longest = (
            f"{part / one.makespan:.2%} of one worker's" for part in (found.makespan, found.critical_path)
        )
    else:
        makespan, longest = clock(found.makespan), clock(found.critical_path)
    yield f"time on {workers} workers", makespan
    yield "the longest chain alone", longest
    yield "their busy share", f"{found.utilisation:.0%}"


def _tree(made: Plan) -> Tree:
    """The forest in outline: trees of one shape once, with their number."""
    tree = Tree("what is trained once, and what branches off")
    for shape, number in shapes(made.chains.values()):
        _grow(tree, shape, number)
    return tree


def _grow(tree: Tree, shape: Shape, number: int) -> None:
    (first, last), branches = shape
    at = tree.add(f"{number} × epochs {first}-{last}")
    for branch, count in branches[:BRANCHES]:
        _grow(at, branch, count)
    if len(branches) > BRANCHES:
        at.add(f"and {sum(count for _, count in branches[BRANCHES:])} more")


def status(folder: Path, console: Console) -> None:
    """Print how far the sweep in a folder is."""
    sweep = branched(sweep_of(folder))
    left = sweep.to_do()
    failed = {cell.cell_id: failure.reason for cell in left if (failure := sweep.failure(cell.cell_id)) is not None}
    total, stopped = len(sweep.cells.cells), sum(map(sweep.stopped, sweep.cells.cells))
    given_up = f", {stopped} stopped" if stopped else ""
    waiting = f", {len(left) - len(failed)} to do" if len(left) > len(failed) else ""
    if search := sweep.spec.frontier:
        waiting = f"; a frontier search trains {search.most(total)} at most"
    done = f"{total - len(left) - stopped} of {total} cells done"
    say(console, f"{sweep.spec.name}: {done}, {len(failed)} failed{given_up}{waiting}")
    for cell_id, reason in failed.items():
        say(console, f"{cell_id}: {reason}", "failed")


def sweep_of(folder: Path, store: str | None = None) -> Sweep:
    """The sweep whose output folder this is.

    Raises ``UsageError`` when it is none, and ``SpecError`` when its grid cannot be read here, where a method's package
    may be missing.
    """
    folder = folder.resolve()
    path = folder / "sweep.yaml"
    if not path.is_file():
        raise UsageError(f"{folder} holds no sweep.yaml; give the output folder of a sweep, such as outputs/quickstart")
    told = _told_of(folder / PLAN)
    place, sharing = store or told.get("store"), bool(told.get("sharing", True))
    try:
        spec = load(path, (f"name={json.dumps(folder.name)}",))
    except SpecError as error:
        made = "it was made by another version, or with a package of methods that is not installed here"
        raise SpecError(f"{folder}: {error}; {made}") from None
    return prepare(spec, folder.parent, store=place, sharing=sharing)


def where(sweep: Sweep) -> dict[str, Any]:
    """What ``sweep_of`` must know beside the grid: a store of its own address, and whether cells share epochs."""
    place = sweep.store.files.locator
    return {"store": None if place == own_store(sweep.folder) else place, "sharing": sweep.sharing}


def _told_of(path: Path) -> Mapping[str, Any]:
    """What a plan file holds; nothing where there is none, or a damaged one, which the next run writes anew."""
    with suppress(OSError, ValueError):
        told = json.loads(path.read_bytes())
        return told if isinstance(told, dict) else {}
    return {}


def analyze(folder: Path, console: Console) -> None:
    """Draw and report any folder with the two tables."""
    for line in analysed(folder)[0]:
        say(console, *line)


def analysed(folder: Path) -> tuple[list[Line], dict[str, float]]:
    """Draw and report any folder with the two tables: what is to be said of it, and the headline numbers."""
    result = reporting.write(reporting.analyze(folder), command=f"swast analyze {folder}")
    notes: list[Line] = [(note, "note") for note in (*result.notes, *result.dynamics.notes)]
    maps = [path for path in result.files if path.suffix == ".png" and path.name.startswith("bliss")]
    drawn = (*(("heat map", path) for path in maps), ("report", folder / "report.html"))
    files = [f"{kind:9s} {path}" for kind, path in drawn]
    said = [*sentences(result.collapse_grid, result.frontier), *files]
    if result.dynamics.split:
        said += _events(folder, result.dynamics)
    return [*notes, *((line,) for line in said)], result.numbers()


def _events(folder: Path, found: Dynamics) -> Iterator[str]:
    """How many of each kind, and how to confirm the gravest that is suspected, where the checkpoints are."""
    yield f"events    {found.summary} (on {found.split} accuracy)"
    suspects = events.suspects(found.events)
    if suspects and (folder / "sweep.yaml").is_file():
        command = shlex.join(["swast", "confirm", str(folder), suspects[0].event_id])
        yield f"Is the gravest a double loss? {command}"


def interplay(folder: Path, repetitions: int, console: Console) -> None:
    """Draw SWaST's two experiments on Runge's function, and write the numbers that are shown."""
    import numpy as np

    from analysis import interplay as runge
    from analysis.figures import interplay as figures
    from analysis.figures.canvas import encode

    pruning, degrees = runge.pruning(repetitions), runge.interplay(repetitions)
    drawn = {
        "interplay_pruning": (pruning, figures.draw_pruning(runge.drawn(np.random.default_rng((0, 0))), pruning)),
        "interplay_degree": (degrees, figures.draw_degrees(degrees)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (table, figure) in drawn.items():
            table.to_csv(folder / f"{name}.csv", index=False)
            for kind in ("png", "svg"):
                (folder / f"{name}.{kind}").write_bytes(encode(figure, kind))
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); name another place with --output") from error
    say(console, f"pruning a fit of all points costs more than one of the clean: {runge.dearer(pruning):.0%} of draws")
    for name in drawn:
        say(console, str(folder / f"{name}.png"), "figure")


def _store_at(place: str) -> Store:
    """Raises ``UsageError`` where no sweep has kept anything."""
    store = Store(place)
    if not (store.files.names("segments") or store.files.names("plans")):
        within = Path(place) / "store"
        hint = f"did you mean {within}?" if within.is_dir() else "a sweep's own is OUTPUT/NAME/store"
        raise UsageError(f"{store.place} holds no store of a sweep; {hint}")
    return store


def store_ls(place: str, console: Console) -> None:
    """Print what a store holds, in one line per number of plans that name it."""
    found = list(keeping.held(_store_at(place)))
    table = Table("states", "bytes", "named by")
    for named in sorted({state.named for state in found}, reverse=True):
        some = [state for state in found if state.named == named]
        said = f"{named} sweep{'s' * (named > 1)}" if named else "no plan: swast store gc removes them"
        table.add_row(f"{len(some):,}", f"{sum(state.bytes for state in some):,}", said)
    console.print(table)


def store_gc(place: str, console: Console, *, really: bool) -> None:
    """Remove what no plan names, or say what that would be.

    Raises ``SweepBusyError`` while the sweep runs whose own store it is.
    """
    store = _store_at(place)
    folder = Path(store.files.locator).parent
    with held(folder) if really and (folder / LOCK).is_file() else nullcontext():
        _collect(store, console, really=really)


def _collect(store: Store, console: Console, *, really: bool) -> None:
    found, rest = keeping.garbage(store), keeping.litter(store)
    size = sum(state.bytes for state in found) + sum(map(store.files.size, rest))
    said = f"{len(found):,} states that no plan names, {len(rest):,} damaged files or halves of a state, {size:,} bytes"
    if not really:
        say(console, f"{said}; --yes removes them")
        return
    for state in found:
        store.drop(state.stage, state.epoch)
    for name in rest:
        store.files.remove(name)
    say(console, f"removed {said}")


def store_verify(place: str, console: Console) -> int:
    """Check every digest; 1 when something is damaged (it is set aside, and trained again by the next run)."""
    store = _store_at(place)
    states = len(list(keeping.held(store)))
    found = keeping.damaged(store)
    for state in found:
        say(console, f"stage {state.stage}, epoch {state.epoch}: damaged, set aside", "BAD")
    if not found:
        say(console, f"{states:,} states: every checkpoint and every row is as it was written", "ok")
    return 1 if found else 0


def methods(name: str | None, console: Console) -> None:
    """List the plug-ins, or describe those of one name."""
    everything = (*catalogue.methods(), catalogue.cell()) if name else catalogue.methods()
    found = [method for method in everything if name in (None, method.name)]
    if not found:
        known = ", ".join(sorted({method.name for method in everything}))
        raise UsageError("; ".join((f"no method is named {name!r}", *catalogue.left_out(name), f"known: {known}")))
    for method in found if name else ():
        _describe(method, console)
    if name is None:
        table = Table("kind", "name", "what it does", "settings")
        for method in found:
            table.add_row(method.kind, method.name, method.summary, ", ".join(s.name for s in method.settings))
        console.print(table)
        for refusal in catalogue.left_out():
            say(console, refusal, "note")
        say(console, "swast methods NAME describes one, swast methods cell the fields of a run")


def _describe(method: catalogue.Method, console: Console) -> None:
    say(console, f"({method.kind}): {method.summary}", method.name)
    if method.description:
        say(console, method.description)
    told = (("Acts", method.when), ("Costs", method.cost), ("Source", method.source), ("From", method.distribution))
    for label, line in told:
        if line:
            say(console, f"{label}: {line}")
    explained = any(setting.what for setting in method.settings)
    table = Table("setting", "default", "allowed", *(["what it is"] if explained else []))
    for setting in method.settings:
        row = (setting.name, setting.default, setting.allowed, setting.what)
        table.add_row(*row[: 3 + explained])
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
    """As a grid file has it; empty for a field that does nothing there."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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
    cells = expand(load(file, ALONE)).cells
    if len(cells) != 1:
        raise UsageError(f"{file} has {len(cells)} cells; swast diff compares single cells: name them by cell_id")
    return cells[0].config


def ui(folder: Path | None, port: int, output: Path, console: Console) -> None:
    """Become the MLflow server of a sweep, on the loopback interface: what ends this process ends it."""
    database = (folder or _newest(output)) / "mlflow.db"
    if not database.parent.is_dir():
        raise UsageError(f"there is no folder {database.parent} and so no mlflow.db; give the output folder of a sweep")
    if not database.is_file():
        raise UsageError(
            f"{database.parent} holds no mlflow.db: it was run with --inline or another --tracking-uri; "
            "open that server, or run the same command without the option, which writes one"
        )
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
