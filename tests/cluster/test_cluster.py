"""A sweep on the topology of docker/compose.yaml: two nodes, token authentication, S3, MLflow on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestration.sink import FILES, METRICS
from orchestration.tables import write_tables
from tests.cluster.processes import PATIENCE, listening
from tests.cluster.services import HEAD, HOST, WORKERS, Topology, s3_client
from tests.orchestration import grids
from tests.orchestration.grids import TINY, timeless, tiny

CELLS = 12
GRID = TINY.replace("checkpoint_seconds: 0", "checkpoint_seconds: 30") + "resources: {cpus: 0.5}\n"
ONE_CELL = ("axes.prune_rate=[0]", "axes.coreset_ratio=[1]", "axes.selector=[el2n]", "axes.seed=[0]")
ROOT = Path(__file__).parents[2]
WRONG = "0123456789abcdef" * 3


@dataclass
class Command:
    """A command of swast that ended, with what it said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        return " ".join((self.out + self.err).split())


@dataclass
class Running:
    """A command of swast."""

    process: subprocess.Popen[str]
    said: list[str]

    def end(self) -> Command:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said += [out, err]
        return Command(self.process.returncode, out, err)


@dataclass
class Swast:
    """Calls swast as a person who may use the cluster, and keeps all that was said."""

    cluster: Topology
    folder: Path
    said: list[str]

    @property
    def grid(self) -> Path:
        return self.folder / "tiny.yaml"

    def begin(self, *arguments: str | Path, **env: str | None) -> Running:
        """Start a command. ``env``: other variables, ``None`` for none."""
        known = self.cluster.env | {"PYTHONPATH": str(ROOT)} | env
        process = subprocess.Popen(
            [sys.executable, "-c", "from orchestration.cli import main; main()", *map(str, arguments)],
            env={name: value for name, value in known.items() if value is not None},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(process, self.said)

    def __call__(self, *arguments: str | Path, **env: str | None) -> Command:
        return self.begin(*arguments, **env).end()

    def run(self, *more: str | Path, **env: str | None) -> Command:
        """The sweep that all tests look at."""
        where = ["--address", self.cluster.ray, "--store", "s3://sweeps/tiny", "--output", self.folder / "out"]
        return self("run", self.grid, *where, "--tracking-uri", self.cluster.mlflow, *more, **env)


@pytest.fixture(scope="module")
def swast(cluster: Topology, tmp_path_factory: pytest.TempPathFactory) -> Swast:
    made = Swast(cluster, tmp_path_factory.mktemp("swast"), [])
    made.grid.write_text(GRID)
    return made


@pytest.fixture(scope="module")
def swept(swast: Swast) -> Command:
    """The sweep across the cluster."""
    return swast.run()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same sweep in this process."""
    sweep = grids.run(tiny(tmp_path_factory.mktemp("inline"), GRID))
    write_tables(sweep)
    return sweep.folder


@pytest.fixture
def mlflow(cluster: Topology, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", cluster.secrets.mlflow_password)
    return MlflowClient(cluster.mlflow)


def assert_same_tables(ours: Path, theirs: Path) -> None:
    for name in ("runs", "history"):
        left, right = (timeless(pd.read_parquet(folder / f"{name}.parquet")) for folder in (ours, theirs))
        pd.testing.assert_frame_equal(*(table.drop(columns="sweep", errors="ignore") for table in (left, right)))


def dashboard(cluster: Topology, path: str) -> bytes:
    """What Ray's dashboard tells."""
    headers = {"Authorization": f"Bearer {cluster.secrets.ray_token}"}
    with urlopen(Request(f"{cluster.jobs}/api/{path}", headers=headers), timeout=60) as response:
        return bytes(response.read())


def state(cluster: Topology, path: str) -> list[Mapping[str, str]]:
    """A list of Ray's state API."""
    return list(json.loads(dashboard(cluster, f"v0/{path}"))["data"]["result"]["result"])


def metric_points(cluster: Topology, metric: str, runs: Iterable[str]) -> Iterator[tuple[str, int, float]]:
    """Every point of a metric as MLflow tells it, with its run and its step: in one call, as each is signed in."""
    query = urlencode([("metric_key", metric), *(("run_id", run) for run in runs)])
    word = b64encode(f"admin:{cluster.secrets.mlflow_password}".encode()).decode()
    url = f"{cluster.mlflow}/ajax-api/2.0/mlflow/metrics/get-history-bulk?{query}"
    with urlopen(Request(url, headers={"Authorization": f"Basic {word}"}), timeout=60) as response:
        for point in json.load(response)["metrics"]:
            yield point["run_id"], int(point["step"]), float(point["value"])


def runs_of(mlflow: MlflowClient, sweep: str) -> list[Run]:
    experiment = mlflow.get_experiment_by_name(sweep)
    assert experiment is not None
    return list(mlflow.search_runs([experiment.experiment_id], max_results=100))


def test_every_cell_is_done_as_in_one_process(swast: Swast, swept: Command, undisturbed: Path) -> None:
    assert swept.code == 0, swept.out + swept.err
    assert f"{CELLS} of {CELLS} cells done, 0 running, 0 failed" in swept.told
    assert_same_tables(swast.folder / "out" / "tiny", undisturbed)


def test_both_nodes_ran_cells_and_the_head_none(cluster: Topology, swept: Command) -> None:
    address = {node["node_id"]: node["node_ip"] for node in state(cluster, "nodes")}
    assert set(address.values()) == {HEAD, *WORKERS}
    trained = [t for t in state(cluster, "tasks?limit=10000&detail=false") if t["name"].endswith("Trainable.train")]
    places = Counter(address[task["node_id"]] for task in trained if task["state"] == "FINISHED")
    assert set(places) == set(WORKERS), places
    assert places.total() >= CELLS


def test_mlflow_holds_a_parent_and_every_cell_once(
    cluster: Topology, swast: Swast, swept: Command, mlflow: MlflowClient
) -> None:
    runs = runs_of(mlflow, "tiny")
    [parent] = [run for run in runs if run.data.tags.get("role") == "sweep"]
    children = [run for run in runs if "cell_id" in run.data.tags]
    assert (len(children), len(runs)) == (CELLS, CELLS + 1)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.data.metrics["cells_finished"] == CELLS
    history = pd.read_parquet(swast.folder / "out" / "tiny" / "history.parquet")
    cells = {run.info.run_id: run.data.tags["cell_id"] for run in children}
    for metric, field in METRICS.items():
        known = history[["cell_id", "epoch", field]].dropna().sort_values(["cell_id", "epoch"])
        points = sorted((cells[run], epoch, value) for run, epoch, value in metric_points(cluster, metric, cells))
        assert [point[:2] for point in points] == list(zip(known["cell_id"], known["epoch"], strict=True)), metric
        assert [point[2] for point in points] == pytest.approx(list(known[field].astype(float))), metric


def test_the_report_and_the_figures_are_in_the_object_store(
    cluster: Topology, swast: Swast, swept: Command, mlflow: MlflowClient
) -> None:
    [parent] = [run.info.run_id for run in runs_of(mlflow, "tiny") if run.data.tags.get("role") == "sweep"]
    kept = {key.partition(f"{parent}/artifacts/")[2]: body for key, body in objects(cluster, "mlflow") if parent in key}
    folder = swast.folder / "out" / "tiny"
    for path in (path for name in FILES for path in (folder / name, *(folder / name).glob("*")) if path.is_file()):
        assert kept[str(path.relative_to(folder))] == path.read_bytes(), path
    assert any(name.startswith("figures/") for name in kept)


def test_the_checkpoints_are_in_the_object_store_and_nowhere_else(
    cluster: Topology, swast: Swast, swept: Command
) -> None:
    assert any(name.endswith(".state") for name, _ in objects(cluster, "sweeps"))
    assert not (swast.folder / "out" / "tiny" / "store").exists()
    assert not list(swast.folder.rglob("*.state"))


def test_the_same_command_again_does_nothing(
    cluster: Topology, swast: Swast, swept: Command, mlflow: MlflowClient
) -> None:
    before, runs = dict(objects(cluster, "sweeps")), {run.info.run_id for run in runs_of(mlflow, "tiny")}
    again = swast.run()
    assert again.code == 0, again.err
    assert f"{CELLS} finished already, 0 to do" in again.told
    assert dict(objects(cluster, "sweeps")) == before
    assert {run.info.run_id for run in runs_of(mlflow, "tiny")} == runs


def test_whoever_has_no_token_is_told_so_and_changes_nothing(swast: Swast) -> None:
    cluster, where = swast.cluster, ["--output", swast.folder / "refused"]
    joining = ("run", swast.grid, "--address", cluster.ray, "--store", "s3://sweeps/refused", *where)
    refused = [
        swast.begin(*joining, "--set", "name=wrong", RAY_AUTH_TOKEN=WRONG),
        swast.begin(*joining, "--set", "name=missing", RAY_AUTH_TOKEN=None),
        swast.begin("submit", swast.grid, "--address", cluster.jobs, *where, RAY_AUTH_TOKEN=WRONG),
    ]
    wrong, missing, job = (command.end() for command in refused)
    assert [command.code for command in (wrong, missing, job)] == [2, 2, 2], [wrong.told, missing.told, job.told]
    *attempts, sentence = wrong.err.splitlines()
    assert sentence.startswith(f"swast: cannot join the Ray cluster at {cluster.ray}: ")
    assert "are RAY_AUTH_MODE and RAY_AUTH_TOKEN those of the cluster?" in sentence
    assert all("Authentication token is missing or incorrect" in line for line in attempts)  # Ray's own words
    assert len(attempts) <= 2
    assert missing.err.count("\n") == 1
    assert "no authentication token was found; are RAY_AUTH_MODE and RAY_AUTH_TOKEN" in missing.err
    assert job.err.count("\n") == 1
    assert f"no Ray job server answers at {cluster.jobs} (Authentication failed" in job.err
    assert not any("refused" in key for key, _ in objects(cluster, "sweeps"))


def test_the_dashboard_asks_for_the_token_too(cluster: Topology) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{cluster.jobs}/api/jobs/", timeout=60)
    assert refused.value.code in (401, 403)


def test_a_job_of_the_cluster_runs_the_same_grid_and_its_log_is_followed(
    swast: Swast, swept: Command, undisturbed: Path, mlflow: MlflowClient
) -> None:
    # Beside it, because it waits most of its time: a password that MLflow refuses.
    address = swast.cluster.mlflow.replace("http://", f"http://admin:{WRONG}@")
    unlucky = swast.begin(
        *("run", swast.grid, "--address", swast.cluster.ray, "--store", "s3://sweeps/tiny"),
        *("--output", swast.folder / "unlucky", "--tracking-uri", address),
    )
    where = ["--address", swast.cluster.jobs, "--store", "s3://sweeps/job", "--output", swast.folder / "job"]
    where += ["--tracking-uri", swast.cluster.mlflow, "--set", "name=job"]
    job = swast("submit", swast.grid, *where, "--set", "resources.max_concurrent=2")
    assert job.code == 0, job.out + job.err
    assert f"{CELLS} of {CELLS} cells done, 0 running, 0 failed" in job.told
    assert "succeeded" in job.out.splitlines()[-1]
    assert_same_tables(swast.folder / "job" / "job", undisturbed)
    assert Counter(run.info.status for run in runs_of(mlflow, "job")) == {"FINISHED": CELLS + 1}

    done = unlucky.end()
    assert done.code == 0, done.told
    assert f"MLflow lacks {CELLS} cells" in done.told
    assert "You are not authenticated" in done.told
    assert done.err.count("\n") == 1, done.err


def test_a_local_ray_listens_on_the_loopback_interface_only(swast: Swast) -> None:
    """The nodes of a cluster listen on all: Ray has no such setting for them, hence the token."""
    seen: set[str] = set()
    small = [part for override in ONE_CELL for part in ("--set", override)]
    local = swast.begin("run", swast.grid, "--output", swast.folder / "local", "--tracking-uri", "none", *small)
    while local.process.poll() is None:
        seen |= listening(local.process.pid)
        time.sleep(0.2)
    done = local.end()
    assert done.code == 0, done.told
    assert seen == {HOST}


def test_the_servers_do_too(cluster: Topology) -> None:
    for server in cluster.servers:
        assert listening(server.process.pid) == {HOST}, server.name


def test_no_secret_is_anywhere(swast: Swast, cluster: Topology, mlflow: MlflowClient) -> None:
    hidden = [value.encode() for value in (*vars(cluster.secrets).values(), WRONG)]
    looked = []
    for where, content in everything(swast, cluster, mlflow):
        assert not [secret for secret in hidden if secret in content], where
        looked.append(where)
    assert any("runtime_env_agent" in where for where in looked)  # Ray's logs, the database and the figures
    assert any("/pg/db/" in where for where in looked)
    assert any(where.endswith("report.html") for where in looked)


def everything(swast: Swast, cluster: Topology, mlflow: MlflowClient) -> Iterator[tuple[str, bytes]]:
    """What a person or a machine could read afterwards: output, logs, files, database, objects, runs, the job list."""
    yield from ((f"output {number}", text.encode()) for number, text in enumerate(swast.said))
    for folder in (swast.folder, cluster.folder):
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    yield str(path), path.read_bytes()
    yield "jobs", dashboard(cluster, "jobs/")
    yield "actors", dashboard(cluster, "v0/actors?detail=true")
    for bucket in ("mlflow", "sweeps"):
        yield from objects(cluster, bucket)
    for experiment in mlflow.search_experiments():
        for run in mlflow.search_runs([experiment.experiment_id], max_results=1000):
            yield f"run {run.info.run_id}", json.dumps(run.to_dictionary()).encode()


def objects(cluster: Topology, bucket: str) -> Iterator[tuple[str, bytes]]:
    client = s3_client(cluster.s3, cluster.secrets)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", ()):
            yield found["Key"], client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
