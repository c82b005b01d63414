"""The manifests below deploy/, as they lie there and as kustomize renders them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
BASE: Final = ROOT / "deploy/kubernetes/base"
PODMAN: Final = ROOT / "deploy/podman"
SERVICES: Final = ("gateway", "orchestrator", "shield", "inference")

Document = dict[str, Any]
"""One Kubernetes resource; Any: YAML has no types, kubernetes-validate checks them."""


def written(service: str) -> list[Document]:
    """The resources in the service's file of the base."""
    return list(yaml.safe_load_all((BASE / f"{service}.yaml").read_text()))


def rendered(directory: Path) -> list[Document]:
    """What kubectl or kustomize makes of a directory; without either the test is skipped."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    result = subprocess.run([*command, directory], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # the renderer found above
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "no warnings, such as those about deprecated fields"
    return list(yaml.safe_load_all(result.stdout))


def of_kind(documents: list[Document], kind: str) -> Iterator[Document]:
    """The resources of one kind."""
    return (document for document in documents if document["kind"] == kind)


def pod(service: str) -> Document:
    """The pod's spec in the service's Deployment."""
    (deployment,) = of_kind(written(service), "Deployment")
    spec: Document = deployment["spec"]["template"]["spec"]
    return spec


def container(service: str) -> Document:
    """The service's only container."""
    only: Document
    (only,) = pod(service)["containers"]
    return only


def environment(service: str) -> dict[str, str]:
    """The variables that the container gets."""
    return {variable["name"]: variable["value"] for variable in container(service)["env"]}
