"""Real servers of models in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[3]
READY_SECONDS = 60.0


@contextmanager
def llama_server() -> Generator[str]:
    """The URL of an OpenAI-compatible server; see `tests.services.inference.llama_server`."""
    with _process("tests.services.inference.llama_server", {}) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://"), "the server did not start"
        yield url


@contextmanager
def inference_service(models: str, directory: Path) -> Generator[str]:
    """The URL of an inference service with the models of this configuration."""
    file, url = directory / "models.yaml", f"unix:{directory / 'other.sock'}"
    file.write_text(models)
    settings = {"SHIELDMESH_INFERENCE_LISTEN": url, "SHIELDMESH_INFERENCE_MODELS": str(file)}
    with _process("services.inference", settings) as process, grpc.insecure_channel(url) as channel:
        ready = grpc.channel_ready_future(channel)
        give_up = time.monotonic() + READY_SECONDS
        while not ready.done():
            assert process.poll() is None, "the service did not start; its log is above"
            assert time.monotonic() < give_up, "the service is not ready"
            time.sleep(0.01)
        yield url


@contextmanager
def _process(module: str, environment: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "shieldmesh.leash", str(os.getpid()), module]
    process = subprocess.Popen(  # noqa: S603  # our own program
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
