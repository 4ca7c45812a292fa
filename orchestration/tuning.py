"""The Tuner: one trial per cell, results to the observers. Tune keeps no state that we need: the store decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial

from core.config import as_dict
from orchestration.observer import Observer, Report
from orchestration.sweep import Sweep
from orchestration.trainable import CellTrainable, Work
from sweeps.cells import Cell


class Telling(Callback):
    """Hands what Tune reports to an observer."""

    def __init__(self, sweep: Sweep, observer: Observer) -> None:
        self._sweep = sweep
        self._observer = observer

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles callbacks for its own restore, which is never used: the store decides what is to do."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker took a cell."""
        self._observer.started(trial.config["cell_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A cell trained on, ended, or failed with an error of its own."""
        cell_id = trial.config["cell_id"]
        if "failed" in result:
            self._observer.failed(cell_id, result["failed"])
            return
        if "epoch" in result:
            self._observer.progressed(report_of(result))
        if result["done"]:
            self._sweep.store.forget_failure(cell_id)
            self._observer.finished(cell_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A cell's worker died."""
        cell_id, reason = trial.config["cell_id"], "the worker process died"
        self._sweep.store.fail(cell_id, reason, str(trial.error_file or ""))
        self._observer.failed(cell_id, reason)


def fit(sweep: Sweep, cells: Sequence[Cell], observer: Observer, scratch: str) -> None:
    """Run one trial per cell, in order, on as many reused actors as the cluster holds. Ctrl-C returns early."""
    wanted = sweep.spec.resources
    work = Work(
        cells=plain(cells),
        chains={cell.cell_id: sweep.chains[cell.cell_id] for cell in cells},
        bundles=sweep.bundles,
        store=sweep.store.root.resolve(),
        device=sweep.device,
        threads=sweep.threads,
        checkpoint_seconds=sweep.spec.checkpoint_seconds,
    )
    trainable = tune.with_resources(
        tune.with_parameters(CellTrainable, work=work), {"cpu": wanted.cpus, "gpu": wanted.gpus}
    )
    tuner = Tuner(
        trainable,
        param_space={"cell_id": tune.grid_search([cell.cell_id for cell in cells])},
        tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=wanted.max_concurrent),
        run_config=RunConfig(
            name=sweep.spec.name,
            storage_path=scratch,
            callbacks=[Telling(sweep, observer)],
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    tuner.fit()


def plain(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """The configurations as plain data by cell_id, as workers read them."""
    return {cell.cell_id: as_dict(cell.config) for cell in cells}


def report_of(result: dict[str, Any]) -> Report:
    """The live table's view of a trial's result."""
    return Report(result["cell_id"], result["epoch"], result["accuracy_val"], result["accuracy_test"], result["stored"])
