"""A plan on Ray Tune: local by default, or the cluster at an address."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestration.observer import Observer
from orchestration.store import write_atomically
from orchestration.sweep import Sweep
from sweeps.cells import Cell

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}


CONNECT_SECONDS = 10.0


class ClusterError(RuntimeError):
    """Ray could not be started or reached: one sentence that says what to do."""


def run_on_ray(sweep: Sweep, cells: Sequence[Cell], observer: Observer, address: str | None) -> None:
    """Run the cells as Tune trials on reused actors. Returns early on Ctrl-C; what is to do then is in the store.

    Raises ``ClusterError`` when the cluster cannot be reached or cannot hold one trial.
    """
    for name, value in (ENVIRONMENT | ({"RAY_AUTH_MODE": "token"} if address is None else {})).items():
        os.environ.setdefault(name, value)  # before ray is imported: it reads them once
    from orchestration.tuning import fit

    with _cluster(sweep, address), tempfile.TemporaryDirectory(prefix="swast-tune-") as scratch:
        fit(sweep, cells, observer, scratch)


@contextmanager
def _cluster(sweep: Sweep, address: str | None) -> Iterator[None]:
    import ray

    # Without "local", Ray would join whatever cluster was last started on this machine.
    options: dict[str, Any] = {
        "address": "local",
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
    }
    if address is not None:
        _check_address(address)
        options = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
        options["runtime_env"] = {"py_modules": _our_packages()}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "a local Ray" if address is None else f"the Ray cluster at {address}"
        raise ClusterError(f"cannot start or reach {where}: {error}; --inline runs without Ray") from error
    try:
        _check_store(sweep, [node["NodeID"] for node in ray.nodes() if node["Alive"]])  # type: ignore[no-untyped-call]
        _check_resources(sweep, [node["Resources"] for node in ray.nodes() if node["Alive"]])  # type: ignore[no-untyped-call]
        yield
    finally:
        ray.shutdown()


def _check_resources(sweep: Sweep, nodes: Sequence[dict[str, float]]) -> None:
    """Raises ``ClusterError`` when no node can hold a trial; Ray would wait for one for ever."""
    wanted = sweep.spec.resources
    for name, need in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
        have = max(node.get(name, 0.0) for node in nodes)
        if need > have:
            key = f"resources.{name.lower()}s"
            raise ClusterError(
                f"a cell needs {need:g} {name} and no node has more than {have:g}; lower {key} in the grid"
            )


def _check_address(address: str) -> None:
    """Raises ``ClusterError`` at once when nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(
            f"no Ray cluster answers at {address} ({reason}); is it running? --inline needs none"
        ) from error


def _check_store(sweep: Sweep, nodes: Sequence[str]) -> None:
    """Raises ``ClusterError`` when a node does not see the output folder: its results would be lost to the others."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if len(nodes) < 2:
        return
    probe = sweep.store.root.resolve() / ".probe"
    write_atomically(probe, b"")
    sees = ray.remote(num_cpus=0)(os.path.exists)
    answers = [
        sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(str(probe))
        for node in nodes
    ]
    blind = sum(not seen for seen in ray.get(answers))
    probe.unlink()
    if blind:
        where = f"{blind} of {len(nodes)} nodes do not see {sweep.folder.resolve()}"
        raise ClusterError(f"{where}: give --output a folder that all nodes share, such as an NFS mount")


def _our_packages() -> list[Any]:
    import analysis
    import core
    import orchestration
    import sweeps

    return [core, sweeps, orchestration, analysis]
