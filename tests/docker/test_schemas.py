"""Every file below docker/ passes the public schema or linter for its kind, and each of those refuses a broken file."""

from __future__ import annotations

import configparser
import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement

from tests.docker import kuberay
from tests.docker.files import (
    COMPOSE,
    DOCKER,
    DOCKERFILE,
    IGNORE,
    KUBERNETES,
    MACHINES,
    OVERLAYS,
    README,
    REQUIREMENTS,
    SCRIPTS,
    code_blocks,
    documents,
    tool,
)

AUTH = DOCKER / "image" / "auth.ini"
CHECKED_HERE = {COMPOSE, *OVERLAYS, *KUBERNETES, MACHINES, *SCRIPTS, DOCKERFILE, README, AUTH, *REQUIREMENTS}
CHECKED_ELSEWHERE = {
    IGNORE: "test_images.py",
    DOCKER / "image" / "make_bucket.py": "test_scripts.py, ruff",
    DOCKER / "env.example": "test_security.py",
    DOCKER / ".gitignore": "test_security.py",
}


def test_every_file_is_checked() -> None:
    caches = (".env", "__pycache__")
    there = {path for path in DOCKER.rglob("*") if path.is_file() and not set(caches) & set(path.parts)}
    assert there == CHECKED_HERE | set(CHECKED_ELSEWHERE)


@pytest.mark.parametrize("path", [COMPOSE, *OVERLAYS], ids=lambda path: path.name)
def test_compose_files_follow_the_compose_specification(path: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_specification_refuses_an_unknown_key(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("shm_size:", "shmsize:"))
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", broken)
    assert done.returncode == 1
    assert "shmsize" in done.stdout


def test_the_dockerfile_has_no_finding() -> None:
    done = tool("hadolint", "--no-color", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_refuses_an_unpinned_base(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python:latest\nUSER 1\n")
    assert "DL3007" in tool("hadolint", "--no-color", broken).stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_finding(path: Path) -> None:
    done = tool("shellcheck", "--shell=bash", "--enable=all", "--exclude=SC2250,SC2312", path)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("number", range(len(code_blocks())))
def test_commands_of_the_readme_have_no_finding(number: int, tmp_path: Path) -> None:
    script = tmp_path / "block.sh"
    script.write_text(code_blocks()[number])
    done = tool("shellcheck", "--shell=bash", script)
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_refuses_an_unquoted_variable(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sh"
    broken.write_text('#!/usr/bin/env bash\nrm -r $1/"$2"\n')
    assert "SC2086" in tool("shellcheck", broken).stdout


def objects() -> list[dict[str, Any]]:
    return [document for path in KUBERNETES for document in documents(path)]


@pytest.mark.parametrize("document", objects(), ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_kubernetes_objects_follow_their_schema(document: dict[str, Any]) -> None:
    assert kuberay.errors(document) == []


def test_kubernetes_schemas_refuse_what_they_do_not_know() -> None:
    claim, cluster = documents(KUBERNETES[0])
    broken = copy.deepcopy(claim)
    broken["spec"]["accessMode"] = "ReadWriteMany"
    assert len(kuberay.errors(broken)) == 1
    for path, key, value in (
        ((), "headGroup", {}),
        (("authOptions",), "mode", "tokens"),
        (("headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("workerGroupSpecs", 0), "maxReplicas", "8"),
        (("workerGroupSpecs", 0, "template", "spec"), "tolerance", []),
        (("headGroupSpec", "template", "spec", "containers", 0, "securityContext"), "privilege", True),
    ):
        broken = copy.deepcopy(cluster)
        place: Any = broken["spec"]
        for step in path:
            place = place[step]
        place[key] = value
        found = kuberay.errors(broken)  # aliases of one YAML anchor break together
        assert found, (path, key)
        assert all(key in error for error in found)


def test_the_cluster_launcher_takes_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(documents(MACHINES)[0]))
    with pytest.raises(jsonschema.ValidationError, match="max_workers"):
        validate_config(prepare_config(documents(MACHINES)[0]) | {"max_workers": -1})


def launcher_schema() -> dict[str, Any]:
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema: dict[str, Any] = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    return schema


def test_the_machines_file_follows_the_launchers_schema() -> None:
    jsonschema.validate(documents(MACHINES)[0], launcher_schema())


def test_the_launchers_schema_refuses_an_unknown_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="setup_command"):
        jsonschema.validate(documents(MACHINES)[0] | {"setup_command": []}, launcher_schema())


def test_the_auth_file_has_the_keys_of_mlflows_own() -> None:
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    theirs = (Path(spec.origin).parent / "server" / "auth" / "basic_auth.ini").read_text()
    config = configparser.ConfigParser()
    config.read(AUTH)
    assert config.sections() == ["mlflow"]
    assert [key for key in config["mlflow"] if f"{key} =" not in theirs] == []


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirement_files_parse(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [Requirement(line).name for line in lines if line]
