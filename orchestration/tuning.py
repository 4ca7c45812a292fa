"""The Tuner: trials on reused actors, suggested by the forest. Tune keeps no state that we need: the store decides."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import ObjectRef, tune
from ray._private import serialization
from ray.exceptions import RayActorError
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.execution import class_cache

from core.data.bundle import Bundle
from orchestration import keeping
from orchestration.dispatch import Dispatch
from orchestration.packing import packed
from orchestration.searcher import ForestSearcher, Stops, Workers
from orchestration.sweep import Sweep, source_key
from orchestration.trainable import CellTrainable, Work
from sweeps.cells import Cell
from sweeps.policy import Need

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""What Tune would copy from our environment into the trials', by way of Ray's logs. Nodes have their own."""


class LowOnMemoryError(RayActorError):
    """A worker that Ray ended because its node ran low on memory. To Tune, Ray's own error is one of the driver's."""

    def __init__(self, message: str) -> None:
        super().__init__(error_msg=message)


serialization.OutOfMemoryError = LowOnMemoryError  # type: ignore[assignment,attr-defined]


def shipped(bundles: Mapping[str, Bundle]) -> Mapping[str, ObjectRef[Bundle]]:
    """Data sets in the object store: nodes fetch what they need, once, however often ``fit`` is called."""
    return {key: ray.put(packed(bundle)) for key, bundle in bundles.items()}


def fit(
    dispatch: Dispatch,
    cells: Sequence[Cell],
    data: Mapping[str, ObjectRef[Bundle]],
    slots: int,
    room: Need | None,
    scratch: str,
) -> None:
    """Run the cells on at most ``slots`` actors at once, in ``room``. Returns early on the budget.

    ``data``: what ``shipped`` returned. Raises ``KeyboardInterrupt`` after Ctrl-C, when the workers have ended.
    """
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it counts a cell that was tried again as lost
    sweep = dispatch.sweep
    keeping.remember(sweep)
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(SECRETS)
    class_cache.DEFAULT_ENV_VARS.clear()  # Lightning's: with any, actors wait for new processes beside Ray's idle ones
    workers, before = Workers(dispatch), signal.getsignal(signal.SIGINT)
    trainable: Any = tune.with_parameters(CellTrainable, work=work_of(sweep, cells, data))
    tuner = Tuner(
        tune.with_resources(trainable, _needs(dispatch)),
        tune_config=TuneConfig(
            search_alg=ForestSearcher(dispatch, room), num_samples=-1, reuse_actors=True, max_concurrent_trials=slots
        ),
        run_config=RunConfig(
            name=sweep.spec.name,
            storage_path=scratch,
            callbacks=[workers],
            stop=Stops(dispatch),
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
        if signal.getsignal(signal.SIGINT) is not workers.interrupts:  # it ends a run and is gone; else it stays
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def _needs(dispatch: Dispatch) -> Callable[[dict[str, Any]], Any]:
    """A trial's resources, by its configuration: those of its cell, or a whole device after it ran out of memory."""

    known = {cell_id: dispatch.sweep.need(cell.config) for cell_id, cell in dispatch.cells.items()}

    def needs(config: dict[str, Any]) -> Any:
        need = known[config["cell_id"]]
        return tune.PlacementGroupFactory([{"CPU": need.cpus, "GPU": 1.0 if config["whole"] else need.gpus}])

    return needs


def work_of(sweep: Sweep, cells: Sequence[Cell], data: Mapping[str, ObjectRef[Bundle]]) -> Work:
    """What workers must know of these cells."""
    needs = {cell.cell_id: sweep.need(cell.config) for cell in cells}
    sources = {cell.cell_id: source_key(cell.config) for cell in cells}
    return Work(
        jobs={cell.cell_id: sweep.job(cell) for cell in cells},
        sources=sources,
        bundles={key: data[key] for key in set(sources.values())},
        store=sweep.store.files.locator,
        epoch_timeout=sweep.spec.epoch_timeout,
        threads={cell_id: need.threads for cell_id, need in needs.items()},
        gpus={cell_id: need.gpus for cell_id, need in needs.items()},
    )
