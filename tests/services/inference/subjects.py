"""What conformance is asked of: each backend, with a real engine behind it, which says itself what it does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from services.inference.admission import Admission
from services.inference.backend import Backend
from services.inference.keys import Key
from services.inference.llamacpp.backend import LlamaBackend
from services.inference.openai.backend import OpenAIBackend
from services.inference.openai.options import OpenAIOptions
from services.inference.remote.backend import RemoteBackend
from services.inference.remote.options import RemoteOptions
from services.inference.replay import ReplayBackend, ReplayOptions
from shieldmesh import calls, channels, http
from shieldmesh.v1 import inference_pb2, inference_pb2_grpc

from .llama_server import KEY, SLOTS
from .serving import TIMEOUT

NAMES = ("plain", "endless")

Count = Callable[[], Awaitable[tuple[int, int]]]


@dataclass(frozen=True)
class Subject:
    """What is examined: the same model twice, and what its engine says of itself."""

    kind: str
    plain: Backend
    endless: Backend
    """Does not end by itself when it gets `endless_options`."""
    engine: Count
    """The generations that run in the engine, and the tokens that it has generated, as it says itself."""
    services: int = 1
    """Inference services on the way to the engine."""
    endless_options: dict[str, Any] = field(default_factory=dict[str, Any])

    places: dict[str, Admission] = field(default_factory=lambda: {name: places(name) for name in NAMES})
    """Those of the two models."""

    @property
    def is_real(self) -> bool:
        """Whether there is a real model behind it."""
        return self.kind != "replay"


def embedded(backend: LlamaBackend) -> Subject:
    async def engine() -> tuple[int, int]:
        return counters(backend.engine.handle_metrics())

    return Subject("llamacpp", backend, backend, engine, endless_options={"ignore_eos": True})


def by_http(url: str, *others: str) -> Subject:
    """`others` are further URLs of the model: of the same server, or of none."""

    def backend(extra: dict[str, JsonValue]) -> OpenAIBackend:
        options = OpenAIOptions(
            urls=tuple(f"{each}/v1" for each in (url, *others)),
            model="smol",
            api_key=Key(lambda: KEY),
            dialect="llama-server",
            tools=False,
            extra=extra,
        )
        return OpenAIBackend("smol", options)

    async def engine() -> tuple[int, int]:
        answer = await http.get(url, authorization=f"Bearer {KEY}").get("/metrics", timeout=TIMEOUT)
        return counters(answer.text)

    return Subject("pool" if others else "openai", backend({}), backend({"ignore_eos": True}), engine)


def by_grpc(url: str) -> Subject:
    backend = RemoteBackend("m", RemoteOptions(url=url, model="smol"))

    async def engine() -> tuple[int, int]:
        stub = inference_pb2_grpc.InferenceServiceStub(channels.get(url))
        listed = await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
        return listed.models[0].running, listed.models[0].generated_tokens

    return Subject("grpc", backend, backend, engine, services=2, endless_options={"ignore_eos": True})


def replayed() -> Subject:
    plain = ReplayBackend(ReplayOptions(text="The capital of France is Paris. " * 4))
    endless = ReplayBackend(ReplayOptions(text="and so on " * 10_000, pace=100))

    async def engine() -> tuple[int, int]:
        # It plays exactly while it has a place.
        running = sum(each.running for each in made.places.values())
        return running, plain.generated_tokens + endless.generated_tokens

    made = Subject("replay", plain, endless, engine)
    return made


def counters(metrics: str) -> tuple[int, int]:
    """llama.cpp's own: the generations that run, and the tokens of those that have ended."""
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    return int(values["llamacpp:requests_processing"]), int(values["llamacpp:tokens_predicted_total"])


def places(name: str) -> Admission:
    return Admission(name, max_running=SLOTS, max_waiting=0)
