"""What the history of a sweep tells: the collapse events of its runs, with what their confirmations found."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis import collapse
from analysis.confirmations import Confirmation, with_verdicts
from analysis.courses import courses
from analysis.dips import Detection
from analysis.events import Event

SPLITS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Dynamics:
    """Events, gravest first, and in ``notes`` what could not be told for want of a column.

    ``split``: the accuracy that was judged, ``validation`` or ``test``; empty where there is no history.
    """

    split: str = ""
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures."""
        return ()


def dynamics(runs: pd.DataFrame, history: pd.DataFrame, confirmed: Iterable[Confirmation] = ()) -> Dynamics:
    """Validated tables, and the confirmations that tell the status of their events."""
    if history.empty:
        return Dynamics()
    settings = Detection()
    c = courses(runs, history, settings.select_every)
    events = with_verdicts(collapse.events_of(c, settings), confirmed)
    return Dynamics(SPLITS[c.split], events, collapse.notes(history, runs))
