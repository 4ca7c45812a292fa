"""Loopback only, no privileges, tokens on, no secret written down."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.docker.files import (
    COMPOSE,
    DOCKER,
    KUBERNETES,
    MACHINES,
    OVERLAYS,
    documents,
    pods,
    ray_clusters,
    resources,
    services,
    stages,
)

SECRET = re.compile(r"TOKEN$|PASSWORD|SECRET|ACCESS_KEY")
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
EXAMPLE = DOCKER / "env.example"
RAY = ("head", "worker", "sweep")


def environments() -> list[tuple[str, dict[str, Any]]]:
    """What every container is told: compose services, then pods."""
    found = [(name, s["environment"]) for path in (COMPOSE, *OVERLAYS) for name, s in services(path).items()
             if "environment" in s]  # fmt: skip
    containers = [container for pod in pods() for container in pod["containers"]]
    return found + [(c["name"], {v["name"]: v.get("value", "") for v in c.get("env", [])}) for c in containers]


def test_ports_are_published_on_the_loopback_interface() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("ports" in service for path in OVERLAYS for service in services(path).values())


@pytest.mark.parametrize("name", services())
def test_services_have_no_privileges(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert not {"privileged", "pid", "ipc", "network_mode", "userns_mode", "devices"} & service.keys()
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


def test_our_own_services_keep_no_capability() -> None:
    assert not any("cap_add" in service for service in services().values() if "build" in service)


def test_pods_have_no_privileges() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod.get("volumes", []))
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in security
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()


def test_only_the_autoscaler_may_ask_kubernetes() -> None:
    for cluster in ray_clusters():
        for group in cluster["workerGroupSpecs"]:
            assert group["template"]["spec"]["automountServiceAccountToken"] is False
        head = cluster["headGroupSpec"]["template"]["spec"]
        assert cluster.get("enableInTreeAutoscaling", False) != (head.get("automountServiceAccountToken") is False)


def test_token_authentication_is_on_everywhere() -> None:
    for name in RAY:
        environment = services()[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert REQUIRED.fullmatch(environment["RAY_AUTH_TOKEN"])
    assert all(cluster["authOptions"] == {"mode": "token"} for cluster in ray_clusters())
    machines = documents(MACHINES)[0]
    starts = [*machines["head_start_ray_commands"], *machines["worker_start_ray_commands"]]
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts if " start " in command)
    assert "RAY_AUTH_MODE=token" in (DOCKER / "slurm" / "sweep.sbatch").read_text()


def test_secrets_are_never_literal() -> None:
    for name, environment in environments():
        for key, value in environment.items():
            if SECRET.search(key) and not key.endswith("_PATH"):
                assert REQUIRED.fullmatch(value), f"{name}: {key}"
            if "://" in str(value) and "@" in str(value):
                password = str(value).split("://")[1].partition(":")[2].rpartition("@")[0]
                assert REQUIRED.fullmatch(password), f"{name}: {key}"
    assert resources("Secret") == []
    assert not any(SECRET.search(rest) for steps in stages().values() for name, rest in steps if name in ("ENV", "ARG"))


def test_secrets_are_not_on_command_lines() -> None:
    for path in (COMPOSE, *OVERLAYS):
        for name, service in services(path).items():
            words = [*service.get("command", []), *service.get("entrypoint", [])]
            assert not any(REQUIRED.search(word) for word in words), name


def test_the_example_names_every_secret_and_holds_none() -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z0-9_]+=", line) for line in lines)
    used = {match for path in (COMPOSE, *OVERLAYS) for match in REQUIRED.findall(path.read_text())}
    assert {line.rstrip("=") for line in lines} == used


def test_git_ignores_the_secrets() -> None:
    assert ".env" in (DOCKER / ".gitignore").read_text().split()


def test_the_database_and_the_object_store_are_out_of_reach() -> None:
    networks = documents(COMPOSE)[0]["networks"]
    assert networks["storage"] == {"internal": True}
    joined = {name: set(service["networks"]) for name, service in services().items()}
    assert joined["postgres"] == joined["s3"] == joined["bucket"] == {"storage"}
    assert {name for name, found in joined.items() if "storage" in found} == {"mlflow", "bucket", "postgres", "s3"}


def test_no_kubernetes_file_opens_a_port_to_the_world() -> None:
    assert all(word not in path.read_text() for path in KUBERNETES for word in ("LoadBalancer", "NodePort", "hostPort"))
