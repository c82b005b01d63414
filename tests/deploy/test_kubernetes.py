import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from services.inference import configuration
from services.orchestrator.redis_client import redis_place
from shieldmesh import profile
from shieldmesh.cli.local.plan import PROCESS

from .manifests import BASE, PODMAN, ROOT, SERVICES, container, environment, of_kind, pod, rendered, written

CLEANUP_SECONDS = 9
"""What shieldmesh.server takes at most after the grace."""


@pytest.mark.parametrize("service", SERVICES)
def test_every_written_resource_is_valid(service: str) -> None:
    """Each resource in the base has only fields that Kubernetes knows, with values of their types."""
    for document in written(service):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("directory", [BASE, PODMAN], ids=["base", "podman"])
def test_every_rendered_resource_is_valid(directory: Path) -> None:
    """What kustomize makes of the directory is valid in strict mode, and all four services are in it."""
    documents = rendered(directory)
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert {document["metadata"]["name"] for document in of_kind(documents, "Deployment")} == set(SERVICES)


def test_the_image_sets_its_processes_up_as_up_does() -> None:
    """What `shieldmesh up` puts into the environment of services is in the image's."""
    stated = (ROOT / "deploy/Containerfile").read_text()
    assert all(f"ENV {name}={value}\n" in stated for name, value in PROCESS.items())


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_restricted(service: str) -> None:
    """A pod fulfils the Pod Security Standard "restricted", writes to no file of its image and holds no token."""
    assert pod(service)["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(service)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (account,) = of_kind(written(service), "ServiceAccount")
    assert pod(service)["serviceAccountName"] == account["metadata"]["name"] == service
    assert account["automountServiceAccountToken"] is pod(service)["automountServiceAccountToken"] is False
    user = re.search(r"^USER (\d+):\d+$", (ROOT / "deploy/Containerfile").read_text(), re.MULTILINE)
    assert user is not None, "runAsNonRoot can be checked for a numeric user only"
    assert int(user[1]) > 0


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_is_pointed_at_the_port_that_serves_metrics(service: str) -> None:
    """The annotations that scrape configurations read name the port of the service's settings."""
    _, _, port = environment(service)[f"SHIELDMESH_{service.upper()}_METRICS_LISTEN"].rpartition(":")
    (deployment,) = of_kind(written(service), "Deployment")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": port}


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_asks_the_port_that_the_service_listens_on(service: str) -> None:
    """All three probes are gRPC's own, on the port of the service's settings and of its Services."""
    _, _, port = environment(service)[f"SHIELDMESH_{service.upper()}_LISTEN"].rpartition(":")
    assert container(service)["ports"] == [{"name": "grpc", "containerPort": int(port)}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(service)[probe]["grpc"] == {"port": int(port)}
    for document in of_kind(written(service), "Service"):
        assert [(each["port"], each["targetPort"]) for each in document["spec"]["ports"]] == [(int(port), "grpc")]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_lives_longer_than_its_turns(service: str) -> None:
    """A pod that must go is killed only after the longest turn of any profile could have ended."""
    settings = environment(service)
    notice = float(settings[f"SHIELDMESH_{service.upper()}_DRAIN_NOTICE"])
    grace = float(settings[f"SHIELDMESH_{service.upper()}_DRAIN_GRACE"])
    longest = max(each.policy.limits.duration for each in profile.load(ROOT / "profiles").common.values())
    assert grace >= longest
    assert pod(service)["terminationGracePeriodSeconds"] > notice + grace + CLEANUP_SECONDS


@pytest.mark.parametrize("service", SERVICES)
def test_callers_see_every_pod(service: str) -> None:
    """There is a headless Service, and every address that a service is told to call is one of them."""
    headless = {
        f"dns:///{document['metadata']['name']}:{document['spec']['ports'][0]['port']}"
        for each in SERVICES
        for document in of_kind(written(each), "Service")
        if document["spec"].get("clusterIP") == "None"
    }
    assert len(headless) == len(SERVICES)
    assert {value for value in environment(service).values() if value.startswith("dns:")} <= headless


@pytest.mark.parametrize("service", SERVICES)
def test_everything_selects_the_services_own_pods(service: str) -> None:
    """Deployment, Services, spread and disruption budget mean the same pods."""
    documents = written(service)
    label = {"app.kubernetes.io/name": service}
    (deployment,) = of_kind(documents, "Deployment")
    (budget,) = of_kind(documents, "PodDisruptionBudget")
    assert deployment["spec"]["selector"]["matchLabels"] == label
    assert deployment["spec"]["template"]["metadata"]["labels"] == label
    assert budget["spec"]["selector"]["matchLabels"] == label
    assert [each["labelSelector"]["matchLabels"] for each in pod(service)["topologySpreadConstraints"]] == [label]
    assert all(document["spec"]["selector"] == label for document in of_kind(documents, "Service"))


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_adds_no_settings(service: str) -> None:
    """Variables that Kubernetes derives from Services, such as SHIELDMESH_GATEWAY_PORT, cannot stop a service."""
    assert pod(service)["enableServiceLinks"] is False


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_takes_its_variables(service: str) -> None:
    """The process accepts every variable that its Deployment gives it: an added wrong one is all it complains about."""
    wrong = f"SHIELDMESH_{service.upper()}_WRONG"
    module = "gateway" if service == "gateway" else f"services.{service}"
    result = subprocess.run(  # noqa: S603  # a module of this repository
        [sys.executable, "-m", module],
        env=environment(service) | {wrong: "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaint, _, known = result.stderr.strip().partition(": expected one of ")
    assert (result.returncode, complaint) == (1, f"unknown setting {wrong}")
    assert environment(service).keys() <= set(known.split(", "))


def test_the_profiles_are_the_repositorys() -> None:
    """The ConfigMap holds every profile of the repository, byte for byte, and the orchestrator mounts it."""
    configmaps = {document["metadata"]["name"]: document["data"] for document in of_kind(rendered(BASE), "ConfigMap")}
    (profiles,) = (data for name, data in configmaps.items() if name.startswith("profiles-"))
    assert profiles == {path.name: path.read_text() for path in (ROOT / "profiles").glob("*.yaml")}
    (mount,) = (each for each in container("orchestrator")["volumeMounts"] if each["name"] == "profiles")
    assert mount["mountPath"] == environment("orchestrator")["SHIELDMESH_ORCHESTRATOR_PROFILES"]


def test_the_turn_log_has_a_place() -> None:
    """Its file lies in the one directory of the orchestrator that can be written to."""
    (mount,) = (each for each in container("orchestrator")["volumeMounts"] if not each.get("readOnly"))
    file = environment("orchestrator")["SHIELDMESH_ORCHESTRATOR_TURN_LOG"]
    assert file == f"{mount['mountPath']}/turns.db"


def test_replicas_can_share_a_redis(tmp_path: Path) -> None:
    """With the component there is a Redis that forgets nothing by itself, and orchestrators keep their turns there."""
    parts = {"resources": [BASE], "components": [BASE.parent / "redis"]}
    overlay = {name: [os.path.relpath(path, tmp_path) for path in paths] for name, paths in parts.items()}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    documents = rendered(tmp_path)
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    (redis,) = of_kind(documents, "StatefulSet")
    (server,) = redis["spec"]["template"]["spec"]["containers"]
    assert server["args"][-2:] == ["--maxmemory-policy", "noeviction"]
    (orchestrator,) = (each for each in of_kind(documents, "Deployment") if each["metadata"]["name"] == "orchestrator")
    given = {each["name"]: each["value"] for each in orchestrator["spec"]["template"]["spec"]["containers"][0]["env"]}
    (port,) = server["ports"]
    assert redis_place(given["SHIELDMESH_ORCHESTRATOR_TURN_LOG"]).hosts == (
        (redis["spec"]["serviceName"], port["containerPort"]),
    )


def test_the_models_are_those_that_the_profiles_use() -> None:
    """The deployed models load, every profile finds its own, and the path in the pod is the one that is mounted."""
    models = configuration.load(BASE / "models.yaml")
    wanted = {each.policy.model for each in profile.load(ROOT / "profiles").common.values()}
    assert wanted <= {model.name for model in models.models}
    (mount,) = (each for each in container("inference")["volumeMounts"] if each["name"] == "models")
    assert environment("inference")["SHIELDMESH_INFERENCE_MODELS"] == f"{mount['mountPath']}/models.yaml"


def test_the_image_is_this_version() -> None:
    """The base names the image by the version of the project."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image == {"name": "shieldmesh", "newTag": version}
