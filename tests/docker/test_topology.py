"""What must hold between the parts: who waits for whom, what is shared, who is called by which name."""

from __future__ import annotations

from typing import Any

from tests.docker.files import COMPOSE, OVERLAYS, documents, ray_clusters, resources, services, stages


def healthcheck(name: str) -> Any:
    """A service's own healthcheck, or its image's."""
    service = services()[name]
    if "healthcheck" in service:
        return service["healthcheck"]
    target = service.get("build", {}).get("target", "")
    return next((rest for step, rest in stages().get(target, []) if step == "HEALTHCHECK"), None)


def test_whoever_is_waited_for_says_when_it_is_ready() -> None:
    for name, service in services().items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert healthcheck(other), f"{name} waits for {other}, which has no healthcheck"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services()[other].get("restart", "no") == "no"


def test_every_server_has_a_healthcheck() -> None:
    servers = {name for name, service in services().items() if service.get("restart") == "unless-stopped"}
    assert servers == {"head", "worker", "mlflow", "postgres", "s3"}
    assert all(healthcheck(name) for name in servers)


def test_every_node_sees_the_output_folder() -> None:
    for name in ("head", "worker", "sweep"):
        assert "outputs:/outputs" in services()[name]["volumes"]
    for cluster in ray_clusters():
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            volume = {"name": "outputs", "persistentVolumeClaim": {"claimName": "swast-outputs"}}
            assert volume in pod["volumes"]
            assert {"name": "outputs", "mountPath": "/outputs"} in pod["containers"][0]["volumeMounts"]


def test_the_shared_claim_can_be_written_by_many_nodes() -> None:
    claims = resources("PersistentVolumeClaim")
    assert claims
    assert all(claim == claims[0] for claim in claims)
    assert claims[0]["metadata"]["name"] == "swast-outputs"
    assert claims[0]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_no_cell_runs_on_a_head() -> None:
    command = services()["head"]["command"]
    assert command[command.index("--num-cpus") + 1] == "0"
    assert all(cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0" for cluster in ray_clusters())


def test_mlflow_knows_the_names_it_is_called_by() -> None:
    hosts = services()["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"mlflow:5000", "localhost:5000", "127.0.0.1:5000"} == set(hosts)


def test_mlflow_finds_its_database_and_its_bucket() -> None:
    environment = services()["mlflow"]["environment"]
    assert "@postgres:5432/mlflow" in environment["MLFLOW_BACKEND_STORE_URI"]
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == "http://s3:8333"
    assert services()["bucket"]["environment"] == environment


def test_the_object_store_of_ray_fits_into_shared_memory() -> None:
    for name in ("head", "worker", "sweep"):
        assert services()[name]["shm_size"] == "2gb"
    for name in ("head", "worker"):
        command = services()[name]["command"]
        assert int(command[command.index("--object-store-memory") + 1]) < 2 * 1024**3


def test_volumes_and_networks_are_declared() -> None:
    top = documents(COMPOSE)[0]
    mounts = [volume.partition(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    assert {mount for mount in mounts if not mount.startswith(".")} == set(top["volumes"])
    assert {network for service in services().values() for network in service["networks"]} == set(top["networks"])


def test_overlays_change_services_that_are_there() -> None:
    assert all(set(services(path)) <= set(services()) for path in OVERLAYS)
