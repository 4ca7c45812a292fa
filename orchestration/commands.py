"""The commands that train: run, train, confirm. Commands print through the console given; nothing else here does."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console

from analysis.confirmations import FOLDER, Confirmation, from_record
from core.data.source import DataError
from orchestration import confirmation, keeping
from orchestration.apart import apart
from orchestration.branches import branched
from orchestration.dispatch import Budget, Dispatch
from orchestration.errors import UsageError
from orchestration.files import StoreError, write_atomically
from orchestration.inline import check_devices, run_inline
from orchestration.launch import Cluster, ClusterError, check_address
from orchestration.observer import Observer, Observers
from orchestration.progress import EpochLines, Progress
from orchestration.provenance import provenance
from orchestration.rounds import Rounds, Run
from orchestration.speech import Line, say
from orchestration.store import Store
from orchestration.sweep import Sweep, held, own_store, prepare
from orchestration.tables import totals, write_tables
from orchestration.tracking import Tracker, check_server
from orchestration.views import ALONE, analysed, local_uri, planned, sweep_of, where
from orchestration.watch import Watch
from sweeps.cells import Cell, common_and_varied, expand, labels
from sweeps.plan import EXECUTED, Plan, executed
from sweeps.spec import SpecError, SweepSpec, load

if TYPE_CHECKING:
    from orchestration.search import Search

INTERRUPTED = 130
REFUSED = (SpecError, DataError, StoreError, ClusterError, UsageError)


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

    def check(self) -> None:
        """Raises ``UsageError`` or ``ClusterError`` where nobody listens at a server that is named."""
        if not self.inline and self.tracking_uri not in (None, "none"):
            check_server(self.tracking_uri)
        if not self.inline and self.address is not None:
            check_address(self.address)


def run(file: Path, overrides: Sequence[str], output: Path, target: Target, console: Console) -> int:
    """Run what is not finished, then write tables, figures and report. 0 done, 1 some cells failed, 130 interrupted."""
    target.check()
    spec = load(file, overrides)
    with _taken(output / spec.name, target), closing(Cluster(target.address)) as cluster:
        sweep, plan = _made_ready(_ready, spec, output, target, cluster)
        todo = sweep.snapshot().to_do()
        _write_plan(sweep, plan)
        _announce(sweep, todo, console)
        with _tracking(target.uri(sweep), sweep) as tracker:
            wanted, left = _run_cells(sweep, plan, todo, target, cluster, tracker, console)
            if sweep.spec.on_collapse == "branch_with_preservation":
                sweep, plan = _made_ready(_ready_with_branches, spec, output, target)
                wanted = (*wanted, *_run_branches(sweep, plan, left, cluster, tracker, console))
            headline = _conclude(sweep, target, cluster, console)
            if tracker is not None:
                _close_tracking(tracker, headline, console)
    return _farewell(sweep, wanted, console)


Ready: TypeAlias = Callable[[SweepSpec, Path, Target], tuple[Sweep, Plan]]


def _made_ready(
    ready: Ready, spec: SweepSpec, output: Path, target: Target, cluster: Cluster | None = None
) -> tuple[Sweep, Plan]:
    """The sweep and the plan of what is to do. Where others train, this process does without torch.

    ``cluster`` is connected meanwhile.
    """
    if target.inline:
        return ready(spec, output, target)
    with apart(ready, spec, output, target) as answer:
        if cluster is not None:
            cluster.connect()
        return answer()


def _ready(spec: SweepSpec, output: Path, target: Target) -> tuple[Sweep, Plan]:
    return _planned(prepare(spec, output, store=target.store, sharing=target.sharing), target)


def _ready_with_branches(spec: SweepSpec, output: Path, target: Target) -> tuple[Sweep, Plan]:
    sweep = prepare(spec, output, store=target.store, sharing=target.sharing)
    return _planned(branched(sweep), target)


def _planned(sweep: Sweep, target: Target) -> tuple[Sweep, Plan]:
    plan = planned(sweep)
    if target.inline:
        check_devices(sweep, plan.to_do)
    return (sweep if target.inline else sweep.packed()), plan


def _run_cells(
    sweep: Sweep,
    plan: Plan,
    todo: Sequence[Cell],
    target: Target,
    cluster: Cluster,
    tracker: Tracker | None,
    console: Console,
) -> tuple[Sequence[Cell], Target | None]:
    """Run what is to do, or what a frontier search asks for. Returns the cells that were wanted, and what is left of
    the budget in the target; ``None`` after Ctrl-C.
    """
    search = _search_of(sweep)
    if not (todo if search is None else search.ask(1)):
        keeping.remember(sweep)
        return todo if search is None else _searched(search, console), target
    cells = {cell.cell_id: cell for cell in todo}
    interrupted = False
    flop = plan.shared.flop * (1.0 if plan.budget_cells is None else plan.budget_cells / len(plan.cells))
    with Progress(cells, flop, len(sweep.cells.cells) - len(todo), console) as progress:
        told: Observer = progress if tracker is None else Observers((progress, tracker))
        watch = Watch(sweep, told)
        rounds = Rounds(sweep, plan, Observers((told, watch)), target.budget or Budget(), watch.stops)
        try:
            slots, run_round = _machine(target, cluster, sweep, todo)
            if search is None:
                rounds.run(todo, run_round)
            else:
                _find_frontier(search, rounds, slots, run_round, console)
        except KeyboardInterrupt:
            interrupted = True
            cluster.close()  # what is written next is all that there is
            say(console, "Interrupted; writing what is finished.")
        if rounds.exhausted:
            say(console, "The budget is used up; writing what is finished.")
    wanted = todo if search is None else _searched(search, console)
    return wanted, None if interrupted else replace(target, budget=rounds.budget)


def _run_branches(
    sweep: Sweep, plan: Plan, target: Target | None, cluster: Cluster, tracker: Tracker | None, console: Console
) -> Sequence[Cell]:
    """Run the branches that are not finished, with what is left of the budget; none after Ctrl-C. Returns all."""
    branches = [cell for cell in sweep.cells.cells if cell.branched_from]
    if not branches or target is None:
        return branches
    todo = [cell for cell in branches if not sweep.finished(cell)]
    told = f"{len(branches)} cells that collapsed, once more with preservation: {len(todo)} to do"
    say(console, told, "branches:")
    if tracker is not None:
        tracker.follow(sweep)
    _write_plan(sweep, plan)
    _run_cells(sweep, plan, todo, target, cluster, tracker, console)
    return branches


def _search_of(sweep: Sweep) -> Search | None:
    """The frontier search that the grid asks for. Optuna is loaded for it alone."""
    if sweep.spec.frontier is None:
        return None
    from orchestration.search import search_of

    return search_of(sweep, sweep.spec.frontier)


def _find_frontier(search: Search, rounds: Rounds, slots: int, run_round: Run, console: Console) -> None:
    """Ask for as many joint cells as there are slots, run them with what controls they lack, tell, and again."""
    names = labels(search.sweep.cells.cells)
    while (cells := search.ask(slots)) and not rounds.exhausted:
        rounds.run(cells, run_round)
        for candidate, verdict in search.settle():
            told = "no verdict" if verdict is None else verdict.told()
            say(console, f"{names[candidate.cell_id]}: {told}")
        if search.running:
            return  # interrupted, or the budget is used up


def _searched(search: Search, console: Console) -> Sequence[Cell]:
    """Say how far the search is; the cells that it wants, finished ones included."""
    wanted = search.wanted()
    joint, cells, total = *search.trained(), len(search.sweep.cells.cells)
    say(
        console,
        f"frontier search: {joint} joint cells, {cells} with their controls, {cells / total:.0%} of the grid's {total}",
    )
    return wanted


def _machine(target: Target, cluster: Cluster, sweep: Sweep, cells: Sequence[Cell]) -> tuple[int, Run]:
    """How many cells may run at once, and what runs them."""
    if target.inline:
        return 1, lambda dispatch, _: run_inline(dispatch)
    return cluster.machine(sweep, cells)


@contextmanager
def _tracking(uri: str | None, sweep: Sweep) -> Iterator[Tracker | None]:
    if uri is None:
        yield None
        return
    tracker = Tracker(sweep, uri)
    tracker.start()
    try:
        yield tracker
    except (ClusterError, StoreError):
        tracker.abandon()
        raise


@contextmanager
def _taken(folder: Path, target: Target) -> Iterator[None]:
    """Hold the output folder. A new one goes again where the sweep is refused or interrupted with nothing trained."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with held(folder):
        try:
            yield
        except (*REFUSED, KeyboardInterrupt):
            if new and _untouched(folder, target):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # another process came to share them
                    for parent in new[1:]:
                        parent.rmdir()
            raise


def _close_tracking(tracker: Tracker, headline: Mapping[str, float], console: Console) -> None:
    lacking = tracker.close(headline)
    if lacking or tracker.error:
        why = tracker.error or "it is slow to answer"
        say(console, f"MLflow lacks {lacking} cells ({why}). Nothing is lost: run the same command again.", "warning")


def _untouched(folder: Path, target: Target) -> bool:
    with suppress(StoreError):  # who knows, then
        return not Store(target.store or own_store(folder)).files.names("segments")
    return False


def _write_plan(sweep: Sweep, plan: Plan) -> None:
    """The plan of what is to do now, and the resolved grid, kept beside the results."""
    write_atomically(sweep.folder / "sweep.yaml", sweep.spec.text.encode())
    grid = (cell.config for cell in sweep.cells.cells if not cell.branched_from)
    common, varied = common_and_varied(grid)
    settings = {"common": common | asdict(sweep.spec.measurements), "varied": varied}
    told = {**settings, "environment": provenance(sweep.devices), **where(sweep)}
    write_atomically(sweep.folder / "plan.json", (json.dumps(told | plan.as_dict(), indent=1) + "\n").encode())


def _announce(sweep: Sweep, todo: Sequence[Cell], console: Console) -> None:
    cells = sweep.cells
    counts = f"{cells.listed} cells listed, {len(cells.cells)} distinct with their baselines"
    done = len(cells.cells) - len(todo)
    search = sweep.spec.frontier
    asked = f"; a frontier search trains {search.most(len(cells.cells))} in all at most" if search else ""
    say(console, f"{counts}, {done} finished already, {len(todo)} to do{asked}", f"{sweep.spec.name}:")


def _conclude(sweep: Sweep, target: Target, cluster: Cluster, console: Console) -> dict[str, float]:
    """Tables, figures and report of what is finished; the headline numbers. A process of its own writes them, while
    this one leaves Ray.
    """
    if target.inline:
        lines, headline = _concluded(sweep)
    else:
        with apart(_concluded, sweep.hollow()) as answer:
            cluster.close()
            lines, headline = answer()
    for line in lines:
        say(console, *line)
    return headline


def _concluded(sweep: Sweep) -> tuple[list[Line], dict[str, float]]:
    if not write_tables(sweep)[0]:
        return [], {}
    spent = totals(sweep)
    flop, alone = (sum(spent[f"{how}/flops_{of}"] for of in ("dense", "evaluation")) for how in ("executed", "alone"))
    lines, headline = analysed(sweep.folder)
    told: list[Line] = [(f"{EXECUTED}: {executed(flop, alone)}",)] if flop else []
    return [*told, *lines], headline | spent


def _farewell(sweep: Sweep, wanted: Sequence[Cell], console: Console) -> int:
    names = {cell.cell_id for cell in wanted}
    left = [cell for cell in sweep.to_do() if cell.cell_id in names]
    failed = {cell.cell_id: failure.reason for cell in left if (failure := sweep.failure(cell.cell_id)) is not None}
    for cell_id, reason in failed.items():
        say(console, f"{cell_id}: {reason}", "failed")
    if len(left) > len(failed):
        command = shlex.join(["swast", *sys.argv[1:]])
        say(console, f"Stopped with {len(left) - len(failed)} cells to do; nothing is lost. To go on: {command}")
        return INTERRUPTED
    return 1 if failed else 0


def train(file: Path, overrides: Sequence[str], output: Path, console: Console) -> int:
    """Train the one cell of a file in this process, a line per epoch."""
    spec = load(file, (*overrides, *ALONE))
    cells = expand(spec).cells
    if len(cells) != 1:
        raise UsageError(
            f"{file} has {len(cells)} cells; swast train takes one: fix every axis with --set, or use swast run"
        )
    spec = replace(spec, name=f"{spec.name}-{cells[0].cell_id}")  # the tables of a sweep of that name stay as they are
    sweep, plan = _planned(prepare(spec, output), Target(inline=True))
    with held(sweep.folder):
        _write_plan(sweep, plan)
        if not sweep.to_do():
            say(console, f"cell {sweep.cells.cells[0].cell_id} is finished already")
        run_inline(Dispatch(sweep, plan, sweep.to_do(), EpochLines(console)))
        write_tables(sweep)
    say(console, f"tables and checkpoints: {sweep.folder}")
    return _farewell(sweep, sweep.cells.cells, console)


@dataclass(frozen=True)
class Forks:
    """Which events to confirm, and how: ``None`` of ``events`` for every suspected one, at most ``limit``."""

    events: Sequence[tuple[str, int]] | None
    limit: int | None = None
    orders: int = 6
    workers: int = 1


def confirm(folder: Path, forks: Forks, store: str | None, console: Console) -> int:
    """Run what is missing of each event's four arms, judge and draw them. 0 whatever the verdicts."""
    sweep = sweep_of(folder, store)
    wanted = confirmation.suspected(sweep.folder, forks.limit) if forks.events is None else forks.events
    events = []
    for cell_id, epoch in wanted:
        try:
            events.append(confirmation.named(sweep, cell_id, epoch))
        except UsageError as error:
            if forks.events is not None:
                raise
            say(console, str(error), "note")
    if not events:
        say(console, f"{sweep.folder} has no suspected double loss that can be confirmed")
    with held(sweep.folder / FOLDER):
        for event in events:
            _confirm(sweep, event, forks, console)
    return 0


def _confirm(sweep: Sweep, event: confirmation.Event, forks: Forks, console: Console) -> None:
    say(console, confirmation.label(event.cell.config), f"{event.name}:")
    record: confirmation.Record = {}
    for record, run in confirmation.confirm(sweep, event, forks.orders, forks.workers):  # noqa: B007 (the last is used)
        if run is not None:
            said = f"{run['rows'][-1]['accuracy_test']:.1%} at epoch {event.fork.horizon}"
            order = f"data order {run['seed']}" if run["seed"] else "the run's own data order"
            say(console, f"{order}, {run['arm']} removed: {said}" + ", diverged" * run["diverged"])
    found = from_record(record)
    say(console, found.verdict.numbers())
    say(console, found.verdict.reason, f"{found.verdict.title}:")
    if record["repeats"] is False:
        told = "the arm both does not repeat the run as stored (another CPU model?); the arms compare among themselves"
        say(console, told, "warning")
    say(console, f"figure {_draw(sweep.folder, found)}; swast analyze {sweep.folder} puts it into the report")


def _draw(folder: Path, found: Confirmation) -> Path:
    from analysis.figures import arms
    from analysis.figures.canvas import encode

    figure, path = arms.draw(found), folder / "figures" / f"{found.figure}.png"
    for kind in ("svg", "png"):
        write_atomically(path.with_suffix(f".{kind}"), encode(figure, kind))
    return path
