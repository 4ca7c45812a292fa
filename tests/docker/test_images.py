"""The images: versions agree with the project's, nobody is root, nothing enters a build that should not."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.docker.files import (
    DOCKER,
    IGNORE,
    PROJECT,
    REQUIREMENTS,
    ROOT,
    images,
    instructions,
    ray_clusters,
    services,
    stages,
    versions,
)

PINS = versions(ROOT / "constraints.txt")
TARGETS = ("cpu", "cuda", "mlflow")
OURS = re.compile(r"swast-sweep:([\w.]+)-(\w+)")


def named() -> list[str]:
    return [image for found in images().values() for image in found]


@pytest.mark.parametrize("image", sorted(set(named())))
def test_every_image_is_pinned(image: str) -> None:
    tag = image.rpartition("/")[2].partition(":")[2]
    assert re.match(r"\d", tag), f"{image} names no version"


def test_our_images_carry_the_projects_version() -> None:
    files = (path for path in DOCKER.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    texts = [path.read_text() for path in files if path.name != ".env"]
    found = [match for text in texts for match in OURS.findall(text)]
    assert {version for version, _ in found} == {PROJECT["version"]}
    assert {target for _, target in found} == set(TARGETS)


def test_what_compose_builds_is_what_it_names() -> None:
    for name, service in services().items():
        if "build" in service:
            assert service["image"] == f"swast-sweep:{PROJECT['version']}-{service['build']['target']}", name


def test_the_python_of_the_images_is_the_one_that_was_tested() -> None:
    bases = images()["Dockerfile"]
    assert bases
    for base in bases:
        version = re.fullmatch(r"python:([\d.]+)-slim-\w+", base)
        assert version, base
        assert f"Python {version[1]}," in (ROOT / "constraints.txt").read_text()
        assert version[1] in SpecifierSet(PROJECT["requires-python"])


def test_the_ray_of_kubernetes_is_the_one_that_was_tested() -> None:
    assert {cluster["rayVersion"] for cluster in ray_clusters()} == {PINS["ray"]}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_what_images_install_is_pinned(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    names = {Requirement(line).name for line in lines}
    assert names - PINS.keys() == set()


def test_every_install_is_held_to_the_pins() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert len(installs) > len(TARGETS)
    for install in installs:
        assert "--constraint /pins/constraints.txt" in install or "--no-deps /dist/" in install


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_runs_as_root(target: str) -> None:
    users = [rest for name, rest in stages()[target] if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_requirements_are_installed_before_our_code_is_there() -> None:
    for target in ("cpu", "cuda"):
        steps = [rest for name, rest in stages()[target] if name in ("RUN", "COPY")]
        ours = next(number for number, step in enumerate(steps) if "from=code" in step)
        assert max(number for number, step in enumerate(steps) if "--requirement" in step) < ours


def allowed() -> list[str]:
    lines = IGNORE.read_text().splitlines()
    assert lines[1] == "*"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_builds_see_the_sources_and_nothing_else() -> None:
    assert all((ROOT / name).exists() for name in allowed())
    secret = ("docker/.env", ".git/config", "outputs/x", "data/x", ".venv/x", "mlflow.db")
    assert [path for path in secret if any(path == name or path.startswith(f"{name}/") for name in allowed())] == []


def test_everything_copied_exists_and_enters_the_build() -> None:
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = [word for words in copies for word in words[:-1] if not word.startswith("--")]
    assert sources
    for source in sources:
        assert list(ROOT.glob(source)), source
        assert any(fnmatch.fnmatch(source, name) or source.startswith(f"{name}/") for name in allowed()), source


def test_every_package_of_the_project_is_copied() -> None:
    copied = {rest.split()[0] for name, rest in stages()["code"] if name == "COPY"}
    assert {"core", "sweeps", "orchestration", "analysis"} <= copied
