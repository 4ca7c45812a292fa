"""The scripts do what they say, run with stand-ins for ray, srun and swast."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from orchestration.cli import app
from tests.docker.files import DOCKER, SCRIPTS, parse

JOIN, SBATCH = SCRIPTS
SRUN = 'echo srun "$@" >>"$LOG"\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
RAY = """
echo ray "$@" >>"$LOG"
[[ $1 == symmetric-run && -z ${BROKEN:-} ]] || exit 0
stat --format 'token %a %s' "$RAY_AUTH_TOKEN_PATH" >>"$LOG"
echo "mode $RAY_AUTH_MODE" >>"$LOG"
while [[ $1 != -- ]]; do shift; done
shift
exec "$@"
"""
SWAST = 'echo swast "$@" >>"$LOG"\nexit "${STATUS:-0}"\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with stand-ins for everything the scripts call."""
    scontrol = "printf '%s\\n' node-a node-b node-c\n"
    for name, text in {"srun": SRUN, "ray": RAY, "swast": SWAST, "scontrol": scontrol}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    return tmp_path


def run(place: Path, script: Path, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a script among the stand-ins; its result and what they were called with."""
    given = {"PATH": f"{place}:{os.environ['PATH']}", "LOG": str(place / "log"), "HOME": str(place), **environment}
    done = subprocess.run(
        ["bash", script, *arguments], env=given, cwd=place, capture_output=True, text=True, check=False
    )
    log = place / "log"
    return done, log.read_text() if log.exists() else ""


def job(place: Path, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], str]:
    slurm = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node-[a-c]", "SWAST_BIN": str(place)}
    return run(place, SBATCH, *arguments, **(slurm | {"SWAST_OUTPUT": str(place / "out put")} | environment))


def test_a_slurm_job_starts_ray_on_all_nodes_and_the_sweep_once(place: Path) -> None:
    done, log = job(place, "my grid.yaml", "--set", "name=a b")
    assert done.returncode == 0, done.stderr
    assert "--nodes=3 --ntasks=3" in log
    assert "ray symmetric-run --address node-a:32345 --min-nodes 3" in log
    assert sum(line.startswith("swast run my grid.yaml --address node-a:32345") for line in log.splitlines()) == 1


def test_a_slurm_jobs_sweep_is_a_command_that_swast_knows(place: Path) -> None:
    (place / "swast").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" >"$LOG.words"\n')
    job(place, "my grid.yaml", "--set", "name=a b", "--tracking-uri", "none")
    given = parse(typer.main.get_command(app), (place / "log.words").read_text().splitlines())
    assert given["file"] == Path("my grid.yaml")
    assert list(given["set_"]) == ["name=a b"]
    assert given["output"] == place / "out put"


def test_a_slurm_jobs_token_is_its_owners_and_goes_with_it(place: Path) -> None:
    _, log = job(place, "grid.yaml")
    assert "token 600 64" in log
    assert "mode token" in log
    assert list((place / "out put").iterdir()) == []


def test_a_slurm_job_ends_as_its_sweep_does(place: Path) -> None:
    done, _ = job(place, "grid.yaml", STATUS="3")
    assert done.returncode == 3
    assert list((place / "out put").iterdir()) == []


def test_a_slurm_job_whose_ray_does_not_start_fails(place: Path) -> None:
    done, _ = job(place, "grid.yaml", BROKEN="yes")
    assert done.returncode == 1
    assert "Ray did not start on node-a" in done.stderr


def test_a_slurm_job_without_a_grid_says_how_it_is_used(place: Path) -> None:
    done, log = job(place)
    assert (done.returncode, log) == (2, "")
    assert done.stderr.startswith("usage:")


def test_joining_starts_a_raylet_without_resources_and_leaves(place: Path) -> None:
    done, log = run(place, JOIN, "head:6379", "swast", "status", "a b", STATUS="4")
    assert done.returncode == 4
    start, command, stop = log.splitlines()
    assert start.startswith("ray start --address head:6379 --num-cpus 0 --num-gpus 0")
    assert (command, stop) == ("swast status a b", "ray stop")


def test_joining_without_a_cluster_runs_nothing(place: Path) -> None:
    (place / "ray").write_text("#!/usr/bin/env bash\nexit 1\n")
    done, log = run(place, JOIN, "head:6379", "swast", "status", "x")
    assert (done.returncode, log) == (1, "")


def test_joining_needs_a_command(place: Path) -> None:
    done, _ = run(place, JOIN, "head:6379")
    assert done.returncode == 2


def test_scripts_can_be_run() -> None:
    for script in SCRIPTS:
        assert script.stat().st_mode & stat.S_IXUSR
        assert script.read_text().startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in script.read_text()


def make_bucket() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_bucket", DOCKER / "image" / "make_bucket.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Buckets:
    """An S3 client that knows buckets only."""

    def __init__(self) -> None:
        self.names = ["other"]

    def list_buckets(self) -> dict[str, list[dict[str, str]]]:
        return {"Buckets": [{"Name": name} for name in self.names]}

    def create_bucket(self, Bucket: str) -> None:
        self.names.append(Bucket)


def test_the_bucket_is_made_once() -> None:
    client = Buckets()
    assert [make_bucket().ensure(client, "mlflow") for _ in range(2)] == [True, False]
    assert client.names == ["other", "mlflow"]


def test_the_bucket_is_the_one_mlflow_is_told() -> None:
    assert make_bucket().bucket_of("s3://mlflow") == make_bucket().bucket_of("s3://mlflow/folder") == "mlflow"
    with pytest.raises(ValueError, match="'/var/lib/mlflow'"):
        make_bucket().bucket_of("/var/lib/mlflow")
