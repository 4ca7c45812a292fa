"""The gravest events as charts: the run's course with its references and where it was expected, and its classes."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.charts import Chart, Charts, Line, Marks, plain
from analysis.courses import REFERENCES, SPLITS, Courses
from analysis.dips import Detection, expected_course
from analysis.events import NAMES, Event

MOST, COLUMNS = 6, 3
WORST = 3
RUN, EXPECTED, OTHERS = "the run", "expected course", "other classes"
CLASS = "accuracy_class_"
_REFERENCE = {"prune_only": "prune-only", "coreset_only": "coreset-only", "dense": "dense"}


def gravest(c: Courses, events: Iterable[Event], most: int = MOST) -> tuple[Event, ...]:
    """The first event of each cell (whatever its seed), at most so many; events come gravest first."""
    cell = dict(zip(c.cells["cell_id"], c.treatment_C.tolist(), strict=True))
    first: dict[int, Event] = {}
    for event in events:
        first.setdefault(cell[event.cell_id], event)
    return tuple(first.values())[:most]


def trajectories(c: Courses, shown: Iterable[Event], settings: Detection) -> Charts:
    """Accuracy over epochs around each of these events; in per cent."""
    split = SPLITS[c.split]
    caption = (
        f"Each panel is one run (n = 1), with its references of the same seed. Shaded: from the switch to the horizon "
        f"(2R epochs); vertical lines: switches. The expected course is the level before the switch and what the "
        f"references gained since; its band reaches down to the largest gap that is no event "
        f"({100 * settings.min_drop:g} points, or {settings.z:g} times the local noise). Judged, and the trough "
        f"marked, is the running median of three epochs."
    )
    charts = tuple(_trajectory(c, event, settings, split) for event in shown)
    return Charts("collapse_events", "The gravest collapse events, one run of each cell", caption, COLUMNS, charts)


def _trajectory(c: Courses, event: Event, settings: Detection, split: str) -> Chart:
    row, at = _row(c, event), np.arange(1, c.epochs + 1)
    expected = 100 * expected_course(c, np.array([row]), event.epoch, settings.ahead)[1][0]
    ahead = (at >= event.epoch) & (at <= event.horizon) & np.isfinite(expected)
    lowest = expected[ahead] - 100 * event.threshold
    references = [
        plain(_REFERENCE[name], at, 100 * c.accuracy_CT[other])
        for name, other in zip(REFERENCES, c.references_C3[row].tolist(), strict=True)
        if other >= 0
    ]
    lines = (
        *references,
        Line(EXPECTED, at[ahead], expected[ahead], lowest, expected[ahead]),
        plain(RUN, at, 100 * c.accuracy_CT[row]),
    )
    trough = Marks("trough", np.array([event.trough_epoch]), np.array([100 * event.trough]))
    return _framed(c, event, f"{split} accuracy (%)", lines, (trough,))


def classes(c: Courses, history: pd.DataFrame, events: Iterable[Event], settings: Detection) -> Charts | None:
    """Recall over epochs of the classes that lost most in each of the gravest events; ``None`` without recalls."""
    names = recall_columns(history)
    shown = gravest(c, events)
    rows = history[history["cell_id"].isin({event.cell_id for event in shown})]
    if not names or rows[names].isna().all(axis=None):
        return None
    charts = tuple(_recalls(c, event, rows[rows["cell_id"] == event.cell_id], names, settings) for event in shown)
    caption = (
        f"Test recall of the {WORST} classes that lost most from the {settings.ahead} epochs before the switch to the "
        f"trough, and of all others (mean, band: lowest to highest). Each panel is one run (n = 1); the averaged "
        f"accuracy hides a class that is gone. Shaded: from the switch to the horizon; vertical lines: switches."
    )
    return Charts("class_recall", "Which classes are lost in the gravest collapse events", caption, COLUMNS, charts)


def recall_columns(table: pd.DataFrame) -> list[str]:
    """The columns of accuracies by class, in the table's order."""
    return [name for name in map(str, table.columns) if name.startswith(CLASS)]


def _recalls(c: Courses, event: Event, rows: pd.DataFrame, names: list[str], settings: Detection) -> Chart:
    at = rows["epoch"].to_numpy(dtype=np.int64)
    recall_TC = 100 * rows[names].to_numpy(dtype=np.float64)
    before = (at < event.epoch) & (at >= event.epoch - settings.ahead)
    loss_C = pd.DataFrame(recall_TC[before]).median() - pd.DataFrame(recall_TC[at == event.trough_epoch]).median()
    order = loss_C.fillna(-np.inf).sort_values(ascending=False, kind="stable").index.to_list()
    lines = [plain(f"{_ORDINAL[k]} class", at, recall_TC[:, column]) for k, column in enumerate(order[:WORST])][::-1]
    said = ", ".join(names[column].removeprefix(CLASS) for column in order[:WORST])
    rest = recall_TC[:, order[WORST:]]
    if rest.shape[1]:
        lines.insert(0, Line(OTHERS, at, rest.mean(axis=1), rest.min(axis=1), rest.max(axis=1)))
    chart = _framed(c, event, "test recall (%)", tuple(lines), ())
    return Chart(f"classes {said}: {chart.title}", chart.unit, chart.lines, (), chart.switches, chart.window)


_ORDINAL = ("worst", "second", "third")


def _framed(c: Courses, event: Event, unit: str, lines: tuple[Line, ...], marks: tuple[Marks, ...]) -> Chart:
    row = _row(c, event)
    of_group = c.switches[int(c.group_C[row])]
    own = tuple(epoch for epoch in of_group if c.switched(epoch)[row]) if c.switch_CT[row].any() else of_group
    return Chart(_title(event), unit, lines, marks, own, (event.epoch, event.horizon))


def _title(event: Event) -> str:
    """Kind and status on one line, the cell on the next; no line ends between a number and its unit."""
    kind = NAMES[event.kind][0] + (f", {event.status}" if event.status else "")
    rates = f"p\u00a0=\u00a0{100 * event.prune_rate:g}\u00a0%, α\u00a0=\u00a0{100 * event.coreset_ratio:g}\u00a0%"
    kept = f"preservation\u00a0{event.preservation}, seed\u00a0{event.seed}"
    where = f"{event.experiment}: " if event.experiment else ""
    return f"{kind}\n{where}{event.pruner} × {event.selector}, {rates}, {kept}"


def _row(c: Courses, event: Event) -> int:
    return int(np.flatnonzero((c.cells["cell_id"] == event.cell_id).to_numpy())[0])
