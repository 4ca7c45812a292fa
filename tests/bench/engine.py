"""The engine's speed: against a script that one would write without it, against itself without sharing, and by size.

    python tests/bench/engine.py [--rounds 5] [--script-rounds 5] [--only bench sharing seldom wide ...] [--seeds 0]

Every sweep is a command of its own with one torch thread per trial and a fresh output folder; the three that are
compared take turns within a round. ``seldom`` is the sharing grid evaluated at its cells' ends alone, without the
script, which evaluates every epoch; ``wide`` the same with what leaves nothing but training, which is what is shared: a
network whose time goes by the sample, batches of the smallest coreset, so that hardly a step is less than a full one,
and selectors that choose without a pass over all samples. Prints Markdown for BENCHMARKS.md. Nothing else should run on
the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from outcome import Agreement, Span, agreement, equal_to_the_bit, naive, ours, span_of_naive, span_of_ours
from watching import ROOT, SWAST, Watched, watch

from core.config import CellConfig
from core.trainer import Trainer
from orchestration.history import history_row
from orchestration.pace import pace
from orchestration.sweep import prepare
from orchestration.tables import write_tables
from sweeps.plan import Plan, make_plan
from sweeps.spec import load

GRIDS = ROOT / "sweeps" / "grids"
KINDS = {"naive": "(1) naive_tune.py", "alone": "(2) ours, --no-sharing", "shared": "(3) ours"}
TRIVIAL = {
    "data": {"name": "synthetic", "samples": 16, "test_samples": 8, "classes": 2, "size": 4},
    "model": {"name": "mlp", "hidden": [8]},
    "epochs": 1,
    "batch_size": 16,
}
RUN_SIZES = (10, 100, 1000, 2000)
SELDOM = ("baselines=false", "evaluate_every=41")
WIDE = ("model.width=112", "batch_size=13", "axes.selector=[random, {name: random, balanced: true}, forgetting, ccs]")
PLANNED_SEEDS = (1, 3, 29, 286)
"""Of the bench grid, which has 35 distinct cells per seed."""
TABLE_SEEDS = 58
"""2 030 runs."""


@dataclass(frozen=True)
class Outcome:
    """One sweep: what the command took, when its trials ran, and how its cells ended."""

    watched: Watched
    span: Span
    cells: pd.DataFrame

    @property
    def before(self) -> float:
        """Seconds from the command's start to the first trial's."""
        return self.span.start - self.watched.began

    @property
    def after(self) -> float:
        """Seconds from the last trial's end to the command's: tables, figures, report, MLflow."""
        return self.watched.seconds - self.before - self.span.seconds

    @property
    def over_floor(self) -> float | None:
        """The trials' span over what every distinct epoch took, divided by the cores."""
        cores = os.cpu_count() or 1
        return None if self.span.bare is None else self.span.seconds * cores / self.span.bare


@dataclass(frozen=True)
class Study:
    """A grid file, what is said over it by ``--set``, and its seeds where not the file's own."""

    grid: Path
    settings: tuple[str, ...]
    seeds: tuple[int, ...]

    def overrides(self) -> tuple[str, ...]:
        """All that ``--set`` is given."""
        return (*self.settings, *seeded(self.seeds))

    def command(self, folder: Path) -> list[str]:
        """``swast run`` of it."""
        return [*SWAST, "run", str(self.grid), f"--output={folder}", *(f"--set={each}" for each in self.overrides())]


def seeded(seeds: Sequence[int]) -> tuple[str, ...]:
    """The override for these seeds; none for a grid's own."""
    return (f"axes.seed={list(seeds)}",) if seeds else ()


def run(kind: str, study: Study, folder: Path) -> Outcome:
    """One sweep in a fresh folder."""
    if kind == "naive":
        command = [sys.executable, str(ROOT / "tests/bench/naive_tune.py"), str(study.grid), f"--output={folder}"]
        seeds = ["--seeds", *map(str, study.seeds)] if study.seeds else []
        watched = watch([*command, *seeds], folder / "log.txt")
        return Outcome(watched, span_of_naive(folder), naive(folder))
    more = ["--no-sharing"] if kind == "alone" else []
    watched = watch([*study.command(folder), *more], folder / "log.txt")
    return Outcome(watched, span_of_ours(folder / study.grid.stem), ours(folder / study.grid.stem))


def compare(
    name: str, options: argparse.Namespace, folder: Path, *settings: str, scripts: int | None = None
) -> Iterator[str]:
    """Three sweeps of one grid, taking turns; ``scripts``: the rounds that take the script along, if not all do."""
    scripts = options.script_rounds if scripts is None else scripts
    study = Study(GRIDS / f"{name}.yaml", settings, tuple(options.seeds))
    found: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
    for number in range(options.rounds):
        turn = list(KINDS)[number % 3 :] + list(KINDS)[: number % 3]
        for kind in turn if number < scripts else [kind for kind in turn if kind != "naive"]:
            shutil.rmtree(folder / kind, ignore_errors=True)
            found[kind].append(run(kind, study, folder / kind))
    yield from times(found)
    yield ""
    yield from ratios(found, planned(study, folder / "shared"))
    yield ""
    yield from accuracies(found)


def times(found: dict[str, list[Outcome]]) -> Iterator[str]:
    """Seconds of every sweep and of its parts."""
    columns = ("sweep", "seconds", "to the first trial", "trials", "after the last", "÷ floor", "actors", "driver, MB")
    yield from header(*columns)
    for kind, some in found.items():
        if not some:
            continue
        parts = [[o.watched.seconds for o in some], [o.before for o in some], [o.span.seconds for o in some]]
        cells = [spread(values) for values in (*parts, [o.after for o in some])]
        floor = [o.over_floor for o in some if o.over_floor is not None]
        cells += [spread(floor, 2) if floor else "", f"{max(o.watched.actors for o in some)}"]
        yield row(KINDS[kind], *cells, f"{max(o.watched.peak_mb for o in some):.0f}")


def ratios(found: dict[str, list[Outcome]], plan: Plan) -> Iterator[str]:
    """How many times faster, round by round, and what the plan foretells."""
    yield from header("how many times faster", "whole command", "trials alone")
    for slow in ("naive", "alone"):
        pairs = list(zip(found[slow], found["shared"], strict=False))  # of the script there may be fewer, or none
        if not pairs:
            continue
        whole = [a.watched.seconds / b.watched.seconds for a, b in pairs]
        trials = [a.span.seconds / b.span.seconds for a, b in pairs]
        yield row(f"(3) than {KINDS[slow]}", spread(whole, 2), spread(trials, 2))
    yield ""
    alone, shared = plan.alone, plan.shared
    foretold = {"epochs": alone.epochs / shared.epochs, "samples trained": alone.samples / shared.samples}
    foretold["FLOP with evaluation"] = alone.flop / shared.flop
    slow, quick = plan.seconds(alone), plan.seconds(shared)
    if slow is not None and quick:
        foretold["seconds at the pace of this machine"] = slow / quick
    told = ", ".join(f"{value:.2f} in {what}" for what, value in foretold.items())
    yield f"Foretold by the plan, (3) than (2): {told}."


def planned(study: Study, folder: Path) -> Plan:
    """The study's plan, at the pace of the sweep in ``folder``."""
    spec = load(study.grid, study.overrides())
    sweep = prepare(spec, folder)
    plan = make_plan(spec, chains=sweep.chains)
    return replace(plan, pace=pace(sweep, plan))


def accuracies(found: dict[str, list[Outcome]]) -> Iterator[str]:
    """Whether the three came to the same results."""
    one = found["shared"][0].cells
    equal = all(equal_to_the_bit(one, other.cells) for kind in ("alone", "shared") for other in found[kind])
    yield f"Accuracies of (2) and (3), {len(one)} cells, every round: {'equal to the bit' if equal else 'NOT EQUAL'}."
    if not found["naive"]:
        return
    if one["seed"].nunique() < 2:
        yield "One seed: means cannot be compared with (1)."
        return
    a = agreement(one, found["naive"][0].cells)
    yield f"Means over seeds against (1), {a.points} points: {told(a)}."


def told(a: Agreement) -> str:
    """An agreement in words."""
    apart = f"largest difference {a.percentage_points:.1f} percentage points, {a.deviations:.1f} standard deviations"
    return f"{apart} of the seeds; mean difference {a.overall:+.1f}; smallest p of Welch's tests × points {a.p:.2f}"


# --- cost against the size of the grid -------------------------------------------------------------------------------


def sizes(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Grids of trivial cells, run; grids of usual cells, planned."""
    ran = {n: trivial(n, folder / str(n)) for n in RUN_SIZES if n <= options.most}
    columns = ("trivial cells", "seconds", "trials", "trials, cells/s", "after the last", "actors", "driver, MB")
    yield from header(*columns, "runs in MLflow")
    for n, (outcome, runs) in ran.items():
        watched, span = outcome.watched, outcome.span
        numbers = [f"{x:.1f}" for x in (watched.seconds, span.seconds, n / span.seconds, outcome.after)]
        yield row(str(n), *numbers, str(watched.actors), f"{watched.peak_mb:.0f}", str(runs))
    few, many = min(ran), max(ran)
    more = ran[many][0].watched.seconds - ran[few][0].watched.seconds
    if many > few:
        yield f"\nEach further cell, everything included: {1000 * more / (many - few):.0f} ms ({few} to {many} cells)."
    plans = {cells: seconds for n in PLANNED_SEEDS for cells, seconds in [plan_seconds(n, options.rounds)]}
    yield ""
    yield from header("cells planned", "seconds", "ms per cell")
    for cells, seconds in plans.items():
        yield row(str(cells), spread(seconds, 2), f"{1000 * statistics.median(seconds) / cells:.2f}")
    if options.plot is not None:
        plot({n: o.watched.seconds for n, (o, _) in ran.items()}, plans, options.plot)
        yield f"\n![Cost against grid size]({options.plot})"


def trivial(cells: int, folder: Path) -> tuple[Outcome, int]:
    """A sweep of so many cells that do next to nothing, and how many of its runs MLflow holds as finished."""
    folder.mkdir(parents=True)
    grid = folder / "trivial.yaml"
    grid.write_text(yaml.safe_dump({"cell": TRIVIAL, "axes": {"seed": list(range(cells))}}))
    watched = watch([*SWAST, "run", str(grid), "--output", str(folder)], folder / "log.txt")
    with sqlite3.connect(folder / "trivial" / "mlflow.db") as database:
        tag = "select count(*) from runs join tags using (run_uuid) where tags.key = 'cell_id' and status = 'FINISHED'"
        (runs,) = database.execute(tag).fetchone()
    outcome = Outcome(watched, span_of_ours(folder / "trivial"), ours(folder / "trivial"))
    shutil.rmtree(folder)
    return outcome, runs


def plan_seconds(seeds: int, rounds: int) -> tuple[int, list[float]]:
    """How many cells the bench grid has with so many seeds, and the seconds of reading and planning it."""
    seconds = []
    make_plan(load(GRIDS / "bench.yaml"))  # torch is loaded once, by whatever comes first
    for _ in range(rounds):
        started = time.perf_counter()
        plan = make_plan(load(GRIDS / "bench.yaml", seeded(range(seeds))))
        plan.rows()
        seconds.append(time.perf_counter() - started)
    return len(plan.cells), seconds


def plot(ran: dict[int, float], plans: dict[int, list[float]], path: Path) -> None:
    """Both costs on logarithmic axes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog(list(ran), list(ran.values()), "o-", label="run (trivial cells, MLflow and report included)")
    axes.loglog(list(plans), [statistics.median(some) for some in plans.values()], "s-", label="planned (bench grid)")
    axes.set(xlabel="cells", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The fold of a large store, filled with the rows of one real cell, to the two tables."""
    spec = load(GRIDS / "bench.yaml", seeded(range(TABLE_SEEDS)))
    filled = prepare(spec, folder)
    rows = rows_of(filled.cells.cells[0].config, filled.bundles.values())
    for segment in {segment for chain in filled.chains.values() for segment in chain}:
        filled.store.put(segment.stage, rows[segment.first - 1 : segment.last], b"no state")
    seconds = []
    for _ in range(options.rounds):
        sweep = prepare(spec, folder)
        started = time.perf_counter()
        runs, epochs = write_tables(sweep)
        seconds.append(time.perf_counter() - started)
    yield f"Tables of {runs} runs, {epochs} epochs from the store: {spread(seconds)} s."


def rows_of(cell: CellConfig, bundles: Any) -> list[dict[str, Any]]:
    """The history of a cell, trained here."""
    torch.set_num_threads(1)
    trainer = Trainer(cell, next(iter(bundles)))
    return [history_row(list(trainer.events(until=epoch))) for epoch in range(1, cell.epochs + 1)]


# --- printing --------------------------------------------------------------------------------------------------------


def header(*columns: str) -> Iterator[str]:
    """A table's first two lines."""
    yield row(*columns)
    yield row(*("---" for _ in columns))


def row(*cells: str) -> str:
    """A table's line."""
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, range and number."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high}, n = {len(values)})" if len(values) > 1 else f"{middle} (n = 1)"


SECTIONS: dict[str, Callable[[argparse.Namespace, Path], Iterator[str]]] = {
    "bench": lambda options, folder: compare("bench", options, folder),
    "sharing": lambda options, folder: compare("bench-sharing", options, folder, "baselines=false"),
    "seldom": lambda options, folder: compare("bench-sharing", options, folder, *SELDOM, scripts=0),
    "wide": lambda options, folder: compare("bench-sharing", options, folder, *SELDOM, *WIDE, scripts=0),
    "sizes": sizes,
    "tables": tables,
}


def main() -> None:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--script-rounds", type=int, default=5, help="rounds that take the slow script along")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="in place of the grids' own, for a trial")
    parser.add_argument("--most", type=int, default=RUN_SIZES[-1], help="cells of the largest trivial grid")
    parser.add_argument("--plot", type=Path, help="where to draw the cost against the grid's size")
    options = parser.parse_args()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}")
    for name in options.only:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory(prefix="swast-bench-") as folder:
            for line in SECTIONS[name](options, Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
