"""URLs of modules."""

import subprocess
import sys

import pytest

from shieldmesh.module.inference import InferenceTarget
from shieldmesh.module.mesh import MeshTarget
from shieldmesh.module.openai import OpenAITarget
from shieldmesh.module.url import target_at


@pytest.mark.parametrize(
    ("url", "target", "model"),
    [
        ("grpc://host:7/smollm2", "host:7", "smollm2"),
        ("grpc://host:7/Qwen/Qwen3-8B", "host:7", "Qwen/Qwen3-8B"),
        ("grpcs://host:7/m", "tls:host:7", "m"),
        ("grpcs://host:7/m?ca=/dev/null", "tls:host:7?ca=/dev/null", "m"),
        ("grpc+unix:/run/a.sock?model=m", "unix:/run/a.sock", "m"),
    ],
)
def test_a_model_is_a_service_and_a_name(url: str, target: str, model: str) -> None:
    """What follows the address is the model's name."""
    found = target_at(url)
    assert isinstance(found, InferenceTarget)
    assert (found.target, found.model) == (target, model)


@pytest.mark.parametrize(
    ("url", "target", "profile"),
    [
        ("mesh://host/refine", "host:50051", "refine"),
        ("mesh://host:7", "host:7", ""),
        ("meshs://host:7/refine", "tls:host:7", "refine"),
        ("mesh+unix:/run/a.sock?profile=refine", "unix:/run/a.sock", "refine"),
    ],
)
def test_a_profile_is_a_mesh_and_a_name(url: str, target: str, profile: str) -> None:
    """Without a name it is the default profile."""
    found = target_at(url)
    assert isinstance(found, MeshTarget)
    assert (found.target, found.profile) == (target, profile)


@pytest.mark.parametrize(
    ("url", "base", "model"),
    [
        ("openai+https://host/v1/gpt", "https://host/v1", "gpt"),
        ("openai+http://host:8000/v1/Qwen/Qwen3-8B", "http://host:8000/v1", "Qwen/Qwen3-8B"),
        ("openai+https://host/api/v1/gpt", "https://host/api/v1", "gpt"),
        ("openai+https://host/openai/gpt", "https://host/openai", "gpt"),
        ("openai+https://host/v1?model=a/b", "https://host/v1", "a/b"),
    ],
)
def test_a_model_of_an_openai_server(url: str, base: str, model: str) -> None:
    """The API lies below `v1` or above the last part of the path; `model` says it where that is not so."""
    found = target_at(url)
    assert isinstance(found, OpenAITarget)
    assert (found.base_url, found.model) == (base, model)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:7/m",
        "http://host/v1/m",
        "grpc://host/m",
        "grpc://host:7",
        "grpc://host:7/",
        "grpc+unix:/run/a.sock",
        "grpc+unix:/run/a.sock?profile=m",
        "grpc://host:7/m?ca=/dev/null",
        "grpcs://host:7/m?ca=/no/such/file",
        "mesh://user:secret@host:7/m",
        "mesh://host:7/m?x",
        "openai+https://host/v1/",
        "openai+https:///v1/m",
        "openai+https://user:secret@host/v1/m",
        "openai+https://host/v1/m?key_env=SHIELDMESH_TEST_NO_SUCH_VARIABLE",
        "openai+https://host/v1/m?key=secret",
    ],
)
def test_what_names_no_module_is_refused(url: str) -> None:
    """Anything else is a ValueError that says what is expected and quotes no credentials."""
    with pytest.raises(ValueError, match=r"expected|must hold|key_env|credentials|it knows") as caught:
        target_at(url)
    assert "secret" not in str(caught.value)


BARE = """
import sys

sys.modules["httpx"] = None
import shieldmesh

shieldmesh.Module("grpc://host:7/m")
shieldmesh.Module("openai+https://host/v1/m")
"""


def test_what_is_not_installed_is_named() -> None:
    """Without the packages that it needs, a module of an OpenAI-compatible server says what to install; others work."""
    program = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert program.stderr.splitlines()[-1] == (
        "ImportError: modules at openai+https: need the package httpx: pip install 'shieldmesh[services]'"
    )
