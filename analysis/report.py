"""Analyse the folder of a sweep and write its report: tables, figures, one self-contained page."""

import base64
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd

from analysis import branches, confirmations, cost, events, latex, settings
from analysis.classes import Classes, classes
from analysis.confirmations import Confirmation
from analysis.dynamics import EXPLORED, Dynamics, dynamics
from analysis.equal_flops import DEFINITION, TITLE, equal_flops
from analysis.frontier import collapse_grid, frontier, sentences
from analysis.headline import Headline, headline, notes
from analysis.pairings import pairings
from analysis.panels import Heatmap, heatmaps, sheets, slug, worst_class_maps
from analysis.runs import TableError, load_history, load_runs
from analysis.settings import Settings
from analysis.surface import surface
from analysis.synergy import MEASURES, synergy

PAGE_BYTES = 8_000_000
TABLE_ROWS = 1_000
PIXELS_PER_INCH = 135
ROUNDING = 1e-15
"""What is smaller is what is left of differences between equal fractions."""
NOT_ALWAYS = (
    *("confirmations.csv", "collapse_events.csv", events.FILE, "switches.csv"),
    *("worst_class.csv", "classes.csv", "class_losses.csv", "branches.csv"),
)
"""Tables that not every folder gives."""
_TEMPLATE = "report.html"


@dataclass(frozen=True)
class Analysis:
    """Everything that a report shows; ``files`` are the paths once it is written."""

    folder: Path
    headline: Headline
    notes: tuple[str, ...]
    surface: pd.DataFrame
    synergy: pd.DataFrame
    collapse_grid: pd.DataFrame
    frontier: pd.DataFrame
    equal_flops: pd.DataFrame
    points: pd.DataFrame
    totals: pd.DataFrame
    heatmaps: tuple[Heatmap, ...]
    pairings: tuple[Heatmap, ...]
    settings: Settings
    confirmations: tuple[Confirmation, ...] = ()
    dynamics: Dynamics = field(default_factory=Dynamics)
    classes: Classes = field(default_factory=Classes)
    branches: pd.DataFrame = field(default_factory=pd.DataFrame)
    files: tuple[Path, ...] = ()

    @property
    def maps(self) -> tuple[Heatmap, ...]:
        """All heat maps, in the order of the page."""
        return (*self.pairings, *self.heatmaps, *self.classes.heatmaps)

    @property
    def sheets(self) -> tuple[Heatmap, ...]:
        """The figures of all heat maps: one each, or several of a large one."""
        return tuple(sheet for info in self.maps for sheet in sheets(info))

    @property
    def collapse(self) -> str:
        """How many joint cells collapsed, in words; empty where there is none."""
        return next(iter(sentences(self.collapse_grid, self.frontier)), "")

    def numbers(self) -> dict[str, float]:
        """The headline and the counts of events as finite numbers under flat names, for a tracker."""
        return self.headline.numbers() | (events.numbers(self.dynamics.events) if self.dynamics.split else {})


def analyze(folder: Path | str) -> Analysis:
    """Read the two tables of ``folder`` and compute; writes nothing.

    Raises:
        TableError: the runs table is missing or a table is not valid.
    """
    folder = Path(folder)
    everything = load_runs(folder)
    runs, branched = branches.apart(everything)
    pairs = branches.table(runs, branched)
    has_history = any((folder / f"history.{kind}").is_file() for kind in ("parquet", "csv"))
    history, extra = _history(folder, everything) if has_history else (pd.DataFrame(), ())
    made, damage = settings.read(folder)
    confirmed, strange = confirmations.read(folder)
    grid, measured, by_class = surface(runs), synergy(runs), classes(runs)
    fallen, edge = collapse_grid(runs), frontier(runs)
    return Analysis(
        folder,
        headline(runs, grid, measured),
        (*notes(runs, grid, measured, has_history), *by_class.notes, *extra, *damage, *strange),
        grid,
        measured,
        fallen,
        edge,
        equal_flops(runs),
        cost.points(runs),
        cost.totals(everything),
        (*heatmaps(grid, measured, fallen, edge), *worst_class_maps(by_class.worst)),
        pairings(grid, measured, fallen),
        made,
        confirmed,
        dynamics(runs, history, confirmed, pairs, made.select_every),
        by_class,
        pairs,
    )


def write(analysis: Analysis, command: str = "", day: date | None = None) -> Analysis:
    """Write report.html, the CSV and LaTeX tables and figures/ under the analysed folder.

    ``command`` is what the page tells to run again, ``day`` its date (today, in UTC). Every file
    replaces the one before at once, and equal input gives equal bytes on one day. Figures of an
    earlier analysis go.
    Returns the analysis with ``files`` filled in.
    """
    from analysis.figures.drawn import drawn

    files: list[Path] = []
    images: dict[str, tuple[str, int]] = {}

    def put(name: str, content: bytes) -> None:
        files.append(_replace(analysis.folder / name, content))

    for name in ("surface", "synergy", "collapse_grid", "frontier", "equal_flops", "points", "totals"):
        table: pd.DataFrame = getattr(analysis, name)
        put(f"{name}.csv", _csv(table))
    if analysis.confirmations:
        put("confirmations.csv", _csv(confirmations.table(analysis.confirmations)))
    if analysis.dynamics.split:
        put(events.FILE, events.to_json(analysis.dynamics.events).encode())
        put("collapse_events.csv", _csv(events.table(analysis.dynamics.events)))
        put("switches.csv", _csv(analysis.dynamics.switches))
    of_class = {"worst_class": analysis.classes.worst, "classes": analysis.classes.synergy}
    for name, table in {**of_class, "class_losses": analysis.classes.losses, "branches": analysis.branches}.items():
        if not table.empty:
            put(f"{name}.csv", _csv(table))
    for info in analysis.maps:
        put(f"tables/{info.name}.tex", latex.tables(info).encode())
    for figure in drawn(analysis.sheets, _fronts(analysis), analysis.confirmations, analysis.dynamics.charts):
        source = "data:image/webp;base64," + base64.b64encode(figure.page).decode()
        images[figure.name] = source, round(PIXELS_PER_INCH * figure.width)
        put(f"figures/{figure.name}.png", figure.png)
        put(f"figures/{figure.name}.svg", figure.svg)
    put("report.html", _page(analysis, images, command, day or datetime.now(UTC).date()).encode())
    _clear(analysis.folder, {path.name for path in files})
    return replace(analysis, files=tuple(files))


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _clear(folder: Path, current: set[str]) -> None:
    """Remove figures and tables that an earlier analysis of the folder left, lest they be taken for this one's."""
    for pattern in ("figures/*.png", "figures/*.svg", "tables/*.tex", *NOT_ALWAYS):
        for path in folder.glob(pattern):
            if path.name not in current:
                path.unlink()


def _history(folder: Path, runs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The validated history, and what it lacks in words."""
    history = load_history(folder)
    if history.empty:
        return history, ("The history table has no rows: nothing about single epochs can be analysed.",)
    told = set(history["cell_id"].unique())
    strangers = told - set(runs["cell_id"])
    if strangers:
        raise TableError(
            f"history: cell_id {min(strangers)} is not in the runs table ({len(strangers)} such "
            "cells); write both tables from the same sweep."
        )
    silent = len(set(runs.loc[runs["status"] == "finished", "cell_id"]) - told)
    return history, (f"{silent} finished runs have no history.",) if silent else ()


def _fronts(analysis: Analysis) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """File name, label and points of each experiment that has a front."""
    points = analysis.points
    if "flops_relative" not in points:
        return
    several = points["experiment"].nunique() > 1
    for label, group in points.groupby("experiment"):
        if group["front"].any():
            yield f"accuracy_flops-{slug(str(label))}" if several else "accuracy_flops", str(label), group


def _page(analysis: Analysis, images: dict[str, tuple[str, int]], command: str, day: date) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    content = {
        "analysis": analysis,
        "command": command or f"swast analyze {shlex.quote(str(analysis.folder))}",
        "day": day.isoformat(),
        "images": images,
        "captions": {info.name: f"{info.subtitle}. {info.caption}" for info in analysis.sheets}
        | {one.figure: f"{one.verdict.title}: {one.verdict.numbers()}" for one in analysis.confirmations}
        | {info.name: f"{info.title}. {info.caption}" for info in analysis.dynamics.charts},
        "courses": [info.name for info in analysis.dynamics.charts],
        "measures": MEASURES,
        "equal": (TITLE, DEFINITION),
        "tables": _tables(analysis),
        "summary": analysis.dynamics.summary,
        "events": events.table(analysis.dynamics.events).loc[:, : events.READ],
        "kinds": events.KINDS,
        "limit": TABLE_ROWS,
        "explored_events": EXPLORED,
    }
    template = environment.get_template(_TEMPLATE)
    plain = template.render(**content, library="", explored={})
    from analysis.figures import chooser, interactive

    library = base64.b64encode(interactive.library()).decode()
    maps = {"map": [interactive.to_json(interactive.figure(maps)) for maps in _by_experiment(analysis.heatmaps)]}
    courses = analysis.dynamics.explored
    events_too = [] if courses is None else [maps | {"event": [interactive.to_json(chooser.figure(courses))]}]
    for explored in (*events_too, maps):  # what makes the page too large is left out
        if len(plain) + len(library) + sum(len(figure) for some in explored.values() for figure in some) <= PAGE_BYTES:
            return template.render(**content, library=library, explored=explored)
    return plain


def _by_experiment(maps: tuple[Heatmap, ...]) -> list[tuple[Heatmap, ...]]:
    names = dict.fromkeys(info.experiment for info in maps)
    return [tuple(info for info in maps if info.experiment == name) for name in names]


def _tables(analysis: Analysis) -> list[tuple[str, str, pd.DataFrame]]:
    """Title, file and frame of each table of the page, without columns that never change."""
    chosen = [
        ("Gain and synergy", "synergy"),
        ("Collapsed seeds of each joint cell", "collapse_grid"),
        ("Frontier of collapse", "frontier"),
        ("Surface", "surface"),
        ("Equal FLOPs", "equal_flops"),
        ("Treatments and their cost", "points"),
        ("Totals by status", "totals"),
    ]
    out = []
    for title, name in chosen:
        table: pd.DataFrame = getattr(analysis, name)
        out.append((title, f"{name}.csv", _varying(table)))
    if not analysis.classes.losses.empty:
        out.append(("Losses by class", "class_losses.csv", _varying(analysis.classes.losses)))
    if not analysis.dynamics.foretelling.empty:
        out.append(("What foretells a drop", "", analysis.dynamics.foretelling))
    if not analysis.branches.empty:
        out.insert(0, ("Collapsed cells and their branches with preservation", "branches.csv", analysis.branches))
    if analysis.confirmations:
        out.insert(0, ("Confirmations", "confirmations.csv", confirmations.table(analysis.confirmations)))
    return out


def _varying(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[c for c in ("data", "model", "experiment") if c in table and table[c].nunique() == 1])


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) > ROUNDING else "0"
    return str(value)


def _replace(path: Path, content: bytes) -> Path:
    """Write all of ``content`` or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
