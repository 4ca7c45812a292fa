"""A plan on Ray Tune: local by default, or the cluster at an address."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import tempfile
import uuid
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.dispatch import Dispatch
from orchestration.files import open_files
from orchestration.reachable import refusal
from orchestration.redaction import without_secrets
from orchestration.rounds import Run
from orchestration.sweep import Sweep
from sweeps.cells import Cell
from sweeps.policy import Need

if TYPE_CHECKING:
    from ray import ObjectRef

    from core.data.bundle import Bundle

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
KNOWN = ("auto", "local")
"""What Ray takes for an address beside HOST:PORT."""
JOINING = {
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # attempts, each a line of Ray's; it would offer a refused token 20 times
}


class ClusterError(RuntimeError):
    """Ray could not be started or reached: one sentence that says what to do."""


class Cluster:
    """A connection to Ray: to a local one that is started for it, or to the cluster at ``address``.

    It takes seconds and is made while others work. Why it could not be made is told when it is used: where nothing is
    to do, nobody asks.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._connected = False
        self._error: ClusterError | None = None
        self._data: dict[str, ObjectRef[Bundle]] = {}

    def connect(self) -> None:
        """Connect, or remember why not."""
        load_ray(joining=self._address is not None)
        try:
            _connect(self._address)
        except ClusterError as error:
            self._error = error
        else:
            self._connected = True

    def machine(self, sweep: Sweep, cells: Iterable[Cell]) -> tuple[int, Run]:
        """How many of these cells may run at once, and what runs some of them as Tune trials.

        That raises ``KeyboardInterrupt`` on Ctrl-C and returns early on the budget. Data sets are shipped once.
        Raises ``ClusterError`` when there is no connection, or the cluster cannot hold one of the cells.
        """
        if self._error is not None:
            raise self._error
        import ray

        from orchestration.tuning import fit, shipped

        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if self._address is not None:
            _check_nodes(sweep, [node["NodeID"] for node in nodes])
        needs, resources = {sweep.need(cell.config) for cell in cells}, [node["Resources"] for node in nodes]
        _check_resources(needs, resources)
        most, may_grow = sweep.spec.resources.max_concurrent, self._address is not None
        slots, room = slots_of(needs, resources, most, may_grow=may_grow)
        self._data |= shipped({key: bundle for key, bundle in sweep.bundles.items() if key not in self._data})

        def run(dispatch: Dispatch, some: Sequence[Cell]) -> None:
            with tempfile.TemporaryDirectory(prefix="swast-tune-") as folder:
                fit(dispatch, some, self._data, slots, room, folder)

        return slots, run

    def close(self) -> None:
        """Leave Ray, if it is connected."""
        self._data.clear()
        if self._connected:
            self._connected = False
            disconnect()


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
    from ray._private import utils

    command = without_secrets(utils.get_entrypoint_name())  # type: ignore[no-untyped-call]
    utils.get_entrypoint_name = lambda: command  # a cluster's list of jobs shows it, with a password in an address
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
    except Exception as error:  # from a full disk to a name too long for a socket: they share no class
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
    if address.startswith("ray://"):
        way = "give the head's own HOST:6379 on one of its nodes, or use swast submit"
        raise ClusterError(f"{address} is Ray Client's, through which no sweep can be run: {way}")
    host, _, port = address.rpartition(":")
    if not host and address not in KNOWN:
        raise ClusterError(f"--address {address} has no port; give HOST:PORT, such as {address}:6379")
    reason = refusal(host, int(port)) if port.isdecimal() else ""
    if reason:
        raise ClusterError(f"no Ray cluster answers at {address} ({reason}); is it running? --inline needs none")


def _check_nodes(sweep: Sweep, nodes: Sequence[str]) -> None:
    """Raises ``ClusterError`` when a node does not see the store, where its results would be lost to the others, or has
    another torch than is part of the key of all results; or when one does not answer.
    """
    from ray.exceptions import RayError

    files, probe = sweep.store.files, f".probe-{uuid.uuid4().hex}"
    files.write(probe, b"")
    try:
        answers = _answers(nodes, files.locator, probe)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ClusterError(f"a node of the cluster cannot run a task ({reason}); mend it or end it") from error
    finally:
        files.remove(probe)
    blind, here = sum(not sees for sees, _ in answers), _torch()
    if blind:
        where = f"{blind} of {len(nodes)} nodes do not see {files.place}"
        raise ClusterError(f"{where}: give --output a folder that all nodes share, or --store an s3:// URL")
    others = {torch for _, torch in answers} - {here}
    if others:
        raise ClusterError(f"this command has torch {here} and nodes have {', '.join(sorted(others))}: install one")


def _answers(nodes: Sequence[str], locator: str, probe: str) -> list[tuple[bool, str]]:
    """What every node says."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0)(_answer)
    there = (NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes)
    found: list[tuple[bool, str]] = ray.get(
        [ask.options(scheduling_strategy=at).remote(locator, probe) for at in there]
    )
    return found


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
