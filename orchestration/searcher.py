"""The forest, handed out as trials: Ray Tune asks, the dispatch decides."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from orchestration.dispatch import Dispatch
from orchestration.observer import Report
from sweeps.policy import Need

FIELDS = tuple(Report.__dataclass_fields__)


class ForestSearcher(Searcher):
    """Suggests a cell whose trunk is done and that fits beside the others, ``None`` while there is none, and the end.

    Of cells with several needs, those that wait for a GPU would otherwise hold the places of those that need none.
    """

    def __init__(self, dispatch: Dispatch, room: Need | None = None) -> None:
        super().__init__(metric="epoch", mode="max")
        self._dispatch = dispatch
        self._room = room
        self._cells: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles searchers for its own restore, which is never used: the store decides what is to do."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next trial's configuration."""
        dispatch = self._dispatch
        if dispatch.over or dispatch.exhausted:
            return str(Searcher.FINISHED)
        cell_id = dispatch.next(self._room)
        if cell_id is None:
            return None
        self._cells[trial_id] = cell_id
        return {"cell_id": cell_id, "whole": dispatch.needs_whole_device(cell_id)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A cell trained on."""
        self._dispatch.told(_report(result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A cell ended, or the sweep is being stopped; of a lost worker ``Workers`` hears more."""
        cell_id = self._cells.pop(trial_id, None)
        if error or cell_id is None:
            return
        if result is not None and result.get("ended"):
            self._dispatch.told(_report(result))
        else:
            self._dispatch.returned(cell_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see ``__getstate__``."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see ``__getstate__``."""


class Workers(Callback):
    """Tells the dispatch when a worker takes a cell, and when one is lost."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self.interrupts: Any = None
        """Tune's handler of Ctrl-C, of which it says nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """As the searcher's."""
        return {}

    def setup(self, *given: Any, **info: Any) -> None:
        """A run begins."""
        self.interrupts = signal.getsignal(signal.SIGINT)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker took a cell."""
        self._dispatch.started(trial.config["cell_id"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost, or could not begin."""
        error = Path(trial.error_file or "")
        self._dispatch.died(trial.config["cell_id"], why(error.read_text() if error.is_file() else ""))


class Stops(Stopper):
    """Ends a trial whose cell is given up, and all when the budget is used up; each keeps its last epoch."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def __getstate__(self) -> dict[str, Any]:
        """As the searcher's."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the cell is given up."""
        return self._dispatch.stops(result["cell_id"])

    def stop_all(self) -> bool:
        """Whether the budget is used up."""
        return self._dispatch.exhausted


def why(error: str) -> str:
    """What Ray says of a lost worker, in one line."""
    if "node running low on memory" in error:  # before what follows: it lists processes of that name too
        return "Ray ended the worker: its node ran low on memory"
    if "ray::" in error:  # a traceback from there
        return f"the worker could not begin: {error.strip().splitlines()[-1]}"
    return "the worker process died"


def _report(result: dict[str, Any]) -> Report:
    return Report(**{name: result[name] for name in FIELDS})
