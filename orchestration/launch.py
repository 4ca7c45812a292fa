"""A plan on Ray Tune: local by default, or the cluster at an address."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestration.dispatch import Dispatch
from orchestration.files import open_files
from orchestration.reachable import refusal
from orchestration.rounds import Run
from orchestration.sweep import Sweep
from sweeps.cells import Cell
from sweeps.policy import Need

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
LOCAL = {
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there, Ray is on 127.0.0.1 then, and not on every interface
}
JOINING = {
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # attempts, each a line of Ray's; it would offer a refused token 20 times
}


class ClusterError(RuntimeError):
    """Ray could not be started or reached: one sentence that says what to do."""


@contextmanager
def connection(address: str | None) -> Iterator[None]:
    """A connection to Ray: to a local one that is started for it, or to the cluster at an address.

    Raises ``ClusterError`` when Ray does not start or cannot be reached.
    """
    load_ray(joining=address is not None)
    _connect(address)
    try:
        yield
    finally:
        disconnect()


def machine(sweep: Sweep, cells: Iterable[Cell], address: str | None) -> tuple[int, Run]:
    """How many of these cells may run at once on the Ray that is connected, and what runs some of them as Tune trials.

    That returns early on Ctrl-C and on the budget. Raises ``ClusterError`` when the cluster cannot hold one of them.
    """
    import ray

    from orchestration.tuning import fit, shipped

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if address is not None:
        _check_nodes(sweep, [node["NodeID"] for node in nodes])
    needs, resources = {sweep.need(cell.config) for cell in cells}, [node["Resources"] for node in nodes]
    _check_resources(needs, resources)
    slots, room = slots_of(needs, resources, sweep.spec.resources.max_concurrent, may_grow=address is not None)
    data = shipped(sweep)

    def run(dispatch: Dispatch, some: Sequence[Cell]) -> None:
        with tempfile.TemporaryDirectory(prefix="swast-tune-") as folder:
            fit(dispatch, some, data, slots, room, folder)

    return slots, run


def load_ray(*, joining: bool) -> None:
    """Import what takes seconds, in an environment that Ray reads at that moment."""
    set_environment(joining=joining)
    import orchestration.tuning  # noqa: F401


def set_environment(*, joining: bool) -> None:
    """Tell Ray what the user did not, before it is imported: it reads its variables once."""
    cluster = JOINING | ({"RAY_AUTH_MODE": "token"} if _has_token() else {})
    for name, value in (ENVIRONMENT | (cluster if joining else LOCAL)).items():
        os.environ.setdefault(name, value)


def _has_token() -> bool:
    """Whether Ray finds a token: a head that is started here then asks for it, and one that asks for none takes it."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    return "RAY_AUTH_TOKEN" in os.environ or Path(given).expanduser().is_file()


def disconnect() -> None:
    """End the connection to Ray.

    Ray ends the whole process when an object reference dies while it shuts down, and Python collects cycles in
    whichever thread comes next, such as MLflow's: so they are collected before, and not meanwhile.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    gc.collect()
    try:
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def _connect(address: str | None) -> None:
    """Raises ``ClusterError`` when Ray does not start, does not answer or does not let us in."""
    import ray
    from ray.exceptions import RayError

    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:  # without "local", Ray would join whatever cluster was last started on this machine
        options |= {"address": "local", "include_dashboard": False}
        where, hint = "start a local Ray", ";"
    else:
        check_address(address)
        options |= {"address": address, "runtime_env": {"py_modules": [str(folder) for folder in our_packages()]}}
        where = f"join the Ray cluster at {address}"
        hint = "; are RAY_AUTH_MODE and RAY_AUTH_TOKEN those of the cluster?"
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ClusterError(f"cannot {where}: {reason}{hint} --inline runs without Ray") from error


def _check_resources(needs: Set[Need], nodes: Sequence[dict[str, float]]) -> None:
    """Raises ``ClusterError`` when no node can hold a trial; Ray would wait for one for ever."""
    for need in needs:
        if any(_fits(need, node) for node in nodes):
            continue
        for name, wanted in (("CPU", need.cpus), ("GPU", need.gpus)):
            have = max(node.get(name, 0.0) for node in nodes)
            if wanted > have:
                key = f"resources.{name.lower()}s"
                raise ClusterError(
                    f"a cell needs {wanted:g} {name} and no node has more than {have:g}; lower {key} in the grid"
                )
        both = f"{need.cpus:g} CPU and {need.gpus:g} GPU"
        raise ClusterError(f"a cell needs {both} on one node and no node has both; lower resources in the grid")


def slots_of(
    needs: Set[Need], nodes: Sequence[dict[str, float]], asked: int | None, *, may_grow: bool
) -> tuple[int, Need | None]:
    """How many cells may run at once, and what all nodes have together; ``None`` where more are asked for than fit.

    Cells that wait for a node are what Ray's autoscaler starts one for: a cluster that ``may_grow`` is given as many
    as the grid asks for.
    """
    most = sum(max(_fits(need, node) for need in needs) for node in nodes)
    if may_grow and (asked or 0) > most:
        return asked or most, None
    room = Need(*(sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")))
    return min(most, asked or most), room


def _fits(need: Need, node: dict[str, float]) -> int:
    """How many such cells a node holds at once; Ray counts in ten thousandths."""
    by_cpu = round(1e4 * node.get("CPU", 0.0)) // round(1e4 * need.cpus)
    return min(by_cpu, round(1e4 * node.get("GPU", 0.0)) // round(1e4 * need.gpus)) if need.gpus else by_cpu


def check_address(address: str) -> None:
    """Raises ``ClusterError`` at once when nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    reason = refusal(host, int(port)) if port.isdecimal() else ""
    if reason:
        raise ClusterError(f"no Ray cluster answers at {address} ({reason}); is it running? --inline needs none")


def _check_nodes(sweep: Sweep, nodes: Sequence[str]) -> None:
    """Raises ``ClusterError`` when a node does not see the store, where its results would be lost to the others, or has
    another torch than is part of the key of all results.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    files, probe = sweep.store.files, f".probe-{uuid.uuid4().hex}"
    files.write(probe, b"")
    ask = ray.remote(num_cpus=0)(_answer)
    answers = ray.get(
        [
            ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                files.locator, probe
            )
            for node in nodes
        ]
    )
    files.remove(probe)
    blind, here = sum(not sees for sees, _ in answers), _torch()
    if blind:
        where = f"{blind} of {len(nodes)} nodes do not see {files.place}"
        raise ClusterError(f"{where}: give --output a folder that all nodes share, or --store an s3:// URL")
    others = {torch for _, torch in answers} - {here}
    if others:
        raise ClusterError(f"this command has torch {here} and nodes have {', '.join(sorted(others))}: install one")


def _answer(locator: str, probe: str) -> tuple[bool, str]:
    """Run on a node: whether it sees what the driver wrote, and its torch."""
    try:
        sees = open_files(locator).read(probe) == b""
    except OSError:
        sees = False
    return sees, _torch()


def _torch() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def our_packages() -> list[Path]:
    """The folders of the packages that a cluster needs to run a cell."""
    root = Path(__file__).parent.parent
    return [root / name for name in ("core", "sweeps", "orchestration", "analysis")]
