"""What the history of a sweep tells: the collapse events of its runs, and what the switches and the noise did."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from analysis import branches, collapse, episodes, noise
from analysis import switches as taken
from analysis.charts import Charts
from analysis.confirmations import Confirmation, with_verdicts
from analysis.courses import SPLITS, Courses, courses
from analysis.dips import Detection
from analysis.events import Event, summary

EXPLORED = 60


@dataclass(frozen=True)
class Dynamics:
    """Events, gravest first, and in ``notes`` what could not be told for want of a column.

    ``split``: the accuracy that was judged, ``validation`` or ``test``; empty where there is no history.
    ``switches``: a row per switch of a joint run; ``foretelling``: rank correlations with the drop.
    ``explored``: the course of every event's run, up to ``EXPLORED`` of them, for the page.
    """

    split: str = ""
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    switches: pd.DataFrame = field(default_factory=pd.DataFrame)
    foretelling: pd.DataFrame = field(default_factory=pd.DataFrame)
    charts: tuple[Charts, ...] = ()
    explored: Charts | None = None
    followed: bool = True
    """Whether some run was evaluated often enough for an event to be seen."""

    @property
    def summary(self) -> str:
        """The events in words."""
        return summary(self.events) if self.events or self.followed else "not looked for"


def dynamics(
    runs: pd.DataFrame,
    history: pd.DataFrame,
    confirmed: Iterable[Confirmation] = (),
    branched: pd.DataFrame | None = None,
    select_every: int | None = None,
) -> Dynamics:
    """Validated tables of the grid's own runs, the confirmations that tell the status of their events, and the table
    of their branches, whose courses are in the history too. ``select_every`` is R where the runs table has none.
    """
    if history.empty:
        return Dynamics()
    settings = Detection(select_every=select_every)
    c = courses(runs, history, settings.select_every)
    events = with_verdicts(collapse.events_of(c, settings), confirmed)
    found = taken.switches(c, events, settings)
    told = taken.foretelling(found)
    of_switches = taken.charts(found, told, c.epochs)
    made = (
        episodes.trajectories(c, episodes.gravest(c, events), settings) if events else None,
        episodes.classes(c, history, events, settings) if events else None,
        branches.charts(pd.DataFrame() if branched is None else branched, history),
        of_switches,
        noise.charts(c, history),
    )
    flat = (taken.unvarying(found, name) for name in taken.WORDS if of_switches is None)  # else the caption says it
    notes = (*collapse.notes(history, runs), *_seldom(c), *_absent(history), *filter(None, flat))
    explored = episodes.trajectories(c, events[:EXPLORED], settings) if events else None
    charts = tuple(one for one in made if one is not None)
    return Dynamics(SPLITS[c.split], events, notes, found, told, charts, explored, bool(c.followed.any()))


def _seldom(c: Courses) -> tuple[str, ...]:
    """That events are not looked for where accuracies are known now and then alone."""
    number = int((~c.followed).sum())
    said = f"{number} of {len(c.cells)} runs were evaluated now and then, never in three epochs on end"
    return (f"{said}: no loss of accuracy at a switch is looked for in them (evaluate_every: 1).",) if number else ()


def _absent(history: pd.DataFrame) -> tuple[str, ...]:
    """Which figure is absent for want of a column."""
    wanted = {
        "class recall in the events": bool(episodes.recall_columns(history)),
        "the switches": any(name in history for name in taken.WORDS),
        "label noise": any(name in history for name in noise.NEEDED[:2]),
    }
    columns = ("accuracy_class_0, ...", ", ".join(taken.WORDS), ", ".join(noise.NEEDED[:2]))
    return tuple(
        f"No figure of {what}: no column {name} in the history."
        for (what, there), name in zip(wanted.items(), columns, strict=True)
        if not there
    )
