"""The services of docker/compose.yaml as processes of this machine: S3, PostgreSQL, MLflow, a Ray head and two workers.

All on loopback addresses, each with random secrets, so that a test can look for them where they must not be.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.cluster.processes import Service, free_port, listens, start

HOST = "127.0.0.1"
HEAD, WORKERS = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
"""Ray takes 127.0.0.1 for the address of the outer interface."""


@dataclass(frozen=True)
class Secrets:
    """What must be nowhere but in the environment."""

    ray_token: str = field(default_factory=lambda: secrets.token_hex(24))
    postgres_password: str = field(default_factory=lambda: secrets.token_hex(12))
    mlflow_password: str = field(default_factory=lambda: secrets.token_hex(12))
    s3_key: str = field(default_factory=lambda: secrets.token_hex(12))
    s3_secret: str = field(default_factory=lambda: secrets.token_hex(12))


@dataclass(frozen=True)
class Topology:
    """Where everything is, and what a command needs in its environment to use it."""

    folder: Path
    secrets: Secrets
    s3: str
    mlflow: str
    ray: str
    jobs: str
    env: dict[str, str]
    servers: tuple[Service, ...]
    """All but Ray's nodes."""


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def topology(programs: Path) -> Iterator[Topology]:
    """Start everything, wait until it answers, and end it."""
    # The paths of Ray's sockets may have 107 characters, and PostgreSQL's user must be able to walk here.
    with tempfile.TemporaryDirectory(prefix="swc", dir="/tmp", ignore_cleanup_errors=True) as name, ExitStack() as ends:
        folder, known = Path(name), Secrets()
        folder.chmod(0o755)

        def runs(service: Service) -> Service:
            ends.callback(service.stop)
            return service

        s3_port, database_port, mlflow_port, ray_port, jobs_port = (free_port() for _ in range(5))
        s3 = f"http://{HOST}:{s3_port}"
        env = environment(known, s3, folder)
        nodes = env | {"PYTHONPATH": str(without_our_code(folder))}
        head = runs(start("head", _ray_head(ray_port, jobs_port, folder), nodes, folder))
        bucket = runs(start("s3", [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(s3_port)], env, folder))
        database = runs(postgres(programs, folder, database_port, known.postgres_password))
        bucket.wait_until(lambda: listens(HOST, s3_port))
        make_buckets(s3, known)
        uri = f"postgresql+psycopg://mlflow:{known.postgres_password}@{HOST}:{database_port}/postgres"
        server = runs(mlflow(folder, mlflow_port, uri, env, known))
        head.wait_until(lambda: listens(HEAD, ray_port))
        workers = [
            runs(start(f"worker{number}", _ray_worker(ray_port, address, folder / f"w{number}"), nodes, folder))
            for number, address in enumerate(WORKERS)
        ]
        for node in (head, *workers):
            node.wait_until(lambda node=node: "Ray runtime started" in node.said())
        server.wait_until(lambda: answers(f"http://{HOST}:{mlflow_port}/health"))
        yield Topology(
            folder=folder,
            secrets=known,
            s3=s3,
            mlflow=f"http://{HOST}:{mlflow_port}",
            ray=f"{HEAD}:{ray_port}",
            jobs=f"http://{HEAD}:{jobs_port}",
            env=env,
            servers=(bucket, database, server),
        )


def environment(known: Secrets, s3: str, folder: Path) -> dict[str, str]:
    """What every process of the cluster, and whoever uses it, has in its environment."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a job's command is: python
        "HOME": str(folder),  # no key, token or configuration of the person who runs the tests
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": known.ray_token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": known.s3_key,
        "AWS_SECRET_ACCESS_KEY": known.s3_secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": known.mlflow_password,
    }


def without_our_code(folder: Path) -> Path:
    """A folder that hides what the nodes may have installed of ours: the code must come with each sweep."""
    for package in ("core", "sweeps", "orchestration", "analysis"):
        path = folder / "hides" / package / "__init__.py"
        path.parent.mkdir(parents=True)
        path.write_text(
            f"raise ImportError('the {package} of the node itself, not the one that came with the sweep')\n"
        )
    return folder / "hides"


def make_buckets(endpoint: str, known: Secrets) -> None:
    """The store's and MLflow's."""
    for name in ("sweeps", "mlflow"):
        s3_client(endpoint, known).create_bucket(Bucket=name)


def s3_client(endpoint: str, known: Secrets) -> Any:
    """A client of the object store."""
    import boto3

    keys = {"aws_access_key_id": known.s3_key, "aws_secret_access_key": known.s3_secret}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)


def postgres(programs: Path, folder: Path, port: int, password: str) -> Service:
    """A fresh database cluster, as another user where this one is root: PostgreSQL refuses to run as root."""
    data, file = folder / "pg", folder / "pg.password"
    data.mkdir()
    file.write_text(password)
    who: dict[str, Any] = {"cwd": data}
    if os.geteuid() == 0:
        who |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        for path in (data, file):
            shutil.chown(path, "postgres", "postgres")
    made = [programs / "initdb", "--pgdata", data / "db", "--username", "mlflow", "--pwfile", file, "--no-sync"]
    subprocess.run([*made, "--auth", "scram-sha-256"], check=True, capture_output=True, **who)
    file.unlink()
    command = [programs / "postgres", "-D", data / "db", "-h", HOST, "-p", str(port), "-k", data, "-F"]
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    service = start("postgres", command, env, folder, stop_signal=signal.SIGINT, **who)
    uri = f"host={HOST} port={port} user=mlflow dbname=postgres"
    service.wait_until(lambda: connects(uri, password))
    return service


def connects(uri: str, password: str) -> bool:
    """Whether the database answers."""
    import psycopg

    with psycopg.connect(uri, password=password, connect_timeout=5):
        return True


def mlflow(folder: Path, port: int, database: str, env: dict[str, str], known: Secrets) -> Service:
    """A tracking server with basic auth, as compose.auth.yaml starts it."""
    settings = folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "grant_default_workspace_access = false\n"
    )
    own = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": known.mlflow_password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    return start("mlflow", [*command, "--app-name", "basic-auth"], env | own, folder)


def answers(url: str) -> bool:
    """Whether a web server does."""
    with urlopen(url, timeout=5) as response:
        return bool(response.status == 200)


def _ray_head(port: int, jobs_port: int, folder: Path) -> list[str]:
    where = [f"--node-ip-address={HEAD}", f"--port={port}", f"--dashboard-host={HEAD}", f"--dashboard-port={jobs_port}"]
    return [*_ray_start("0"), "--head", *where, f"--temp-dir={folder}/r"]


def _ray_worker(port: int, address: str, folder: Path) -> list[str]:
    # A folder of its own, as on a machine of its own: nodes remove and unpack what a job ships each for itself.
    where = [f"--address={HEAD}:{port}", f"--node-ip-address={address}", f"--temp-dir={folder}"]
    return [*_ray_start("1"), *where]


def _ray_start(cpus: str) -> list[str]:
    # The module in place of the program: it stands beside this interpreter in every environment.
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-gpus=0"]
    return [*program, f"--num-cpus={cpus}", "--object-store-memory=100000000", "--disable-usage-stats"]
