"""The deployment files, parsed, and the tools that check them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
OVERLAYS = (DOCKER / "compose.auth.yaml", DOCKER / "compose.gpu.yaml")
KUBERNETES = (DOCKER / "kuberay" / "raycluster.yaml", DOCKER / "kuberay" / "rayjob.yaml")
MACHINES = DOCKER / "ray-cluster.yaml"
SCRIPTS = (DOCKER / "image" / "join-ray.sh", DOCKER / "slurm" / "sweep.sbatch")
README = DOCKER / "README.md"
DOCKERFILE = DOCKER / "Dockerfile"
IGNORE = DOCKER / "Dockerfile.dockerignore"
REQUIREMENTS = (DOCKER / "image" / "node.txt", DOCKER / "image" / "mlflow.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a linter that the dev extras bring. Fails, never skips, where it is not installed."""
    path = Path(sys.executable).parent / name
    assert path.exists(), f"{path} is missing: pip install -e '.[dev]'"
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False)


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def services(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = documents(path)[0]["services"]
    return found


def resources(kind: str) -> list[dict[str, Any]]:
    return [document for path in KUBERNETES for document in documents(path) if document["kind"] == kind]


def ray_clusters() -> list[dict[str, Any]]:
    """The RayCluster specs, those inside RayJobs included."""
    jobs = [job["spec"]["rayClusterSpec"] for job in resources("RayJob")]
    return [cluster["spec"] for cluster in resources("RayCluster")] + jobs


def pods() -> Iterator[dict[str, Any]]:
    """Every pod spec that KubeRay is given."""
    for cluster in ray_clusters():
        yield cluster["headGroupSpec"]["template"]["spec"]
        yield from (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    yield from (job["spec"]["submitterPodTemplate"]["spec"] for job in resources("RayJob"))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, in order; continued lines joined, comments dropped."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's stages by name, each with the instructions it inherits from earlier stages."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = [*found.get(base, []), (name, rest)]
        else:
            found[stage].append((name, rest))
    return found


def images() -> dict[str, list[str]]:
    """Every image that is named anywhere, by file."""
    found = {path.name: [s["image"] for s in services(path).values() if "image" in s] for path in (COMPOSE, *OVERLAYS)}
    found["kuberay"] = [container["image"] for pod in pods() for container in pod["containers"]]
    bases = [rest.partition(" AS ")[0] for name, rest in instructions() if name == "FROM"]
    found[DOCKERFILE.name] = [base for base in bases if base not in stages()]
    return found


def versions(path: Path) -> dict[str, str]:
    """Exact pins of a constraints file, by normalised name."""
    pins = (line.split("==") for line in path.read_text().splitlines() if "==" in line and not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version.strip() for name, version in pins}


def code_blocks(path: Path = README) -> list[str]:
    """The bash blocks of a markdown file."""
    return re.findall(r"^```bash\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def parse(command: Any, words: list[str]) -> dict[str, Any]:
    """The parameters that a command of click or typer reads from ``words``. Raises their usage error.

    Typer has its own copy of click: the classes of the two are not the same.
    """
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    parameters: dict[str, Any] = command.make_context("test", list(words)).params
    return parameters
