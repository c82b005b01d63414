"""Every backend does the same: what a caller of InferenceService sees does not tell which one works behind it.

Behind them are llama.cpp in this process, its HTTP server in another (also as one of several endpoints, of which one is
away), an inference service in a third; and replay.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.inference.llamacpp.backend import LlamaBackend
from services.inference.llamacpp.options import LlamaOptions
from services.inference.registry import Registry, ServedModel
from shieldmesh import calls
from shieldmesh.errors import InvalidArgumentError
from shieldmesh.v1 import generation_pb2, inference_pb2, message_pb2

from .llama_server import CONTEXT_WINDOW, SLOTS
from .processes import inference_service, llama_server
from .serving import TIMEOUT, Stub, ask, generating, serving
from .subjects import NAMES, Subject, by_grpc, by_http, embedded, replayed

STOP = inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop())
QUESTION = "What is the capital of France?"
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
OTHER_MODELS = f"""
models:
- name: smol
  backend: llamacpp
  max_running: {SLOTS}
  options: {{context_window: {CONTEXT_WINDOW}, threads: 1}}
"""


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaBackend]:
    """SmolLM2 in this process."""
    options = LlamaOptions(context_window=CONTEXT_WINDOW, threads=1)
    opened = asyncio.run(LlamaBackend.open(options, SLOTS))
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    """SmolLM2 behind HTTP."""
    with llama_server() as url:
        yield url


@pytest.fixture(scope="module")
def other_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SmolLM2 behind another inference service."""
    with inference_service(OTHER_MODELS, tmp_path_factory.mktemp("other")) as url:
        yield url


@pytest.fixture(params=["llamacpp", "openai", "pool", "grpc", "replay"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each backend in turn; only the engines that are asked for start."""
    match request.param:
        case "llamacpp":
            return embedded(request.getfixturevalue("llama"))
        case "openai":
            return by_http(request.getfixturevalue("http_server"))
        case "pool":
            url = request.getfixturevalue("http_server")
            return by_http(url, url.replace("127.0.0.1", "localhost"), "http://127.0.0.1:9")
        case "grpc":
            return by_grpc(request.getfixturevalue("other_service"))
        case _:
            return replayed()


async def test_text_streams_and_every_token_is_counted(subject: Subject, tmp_path: Path) -> None:
    """Started, deltas, finished; the usage is the engine's own, and the deltas' counts add up to it."""
    async with serve(subject, tmp_path) as stub:
        before = await subject.engine()
        started, *deltas, last = await generate(stub, asking(max_tokens=8))
        after = await idle(subject)
    assert started.started.model == "plain"
    assert len(deltas) > 3
    usage = last.finished.usage
    assert sum(event.delta.token_count for event in deltas) == usage.completion_tokens == after[1] - before[1] == 8
    assert usage.prompt_tokens >= 6
    assert usage.total_tokens == usage.prompt_tokens + 8
    assert last.finished.reason == generation_pb2.FINISH_REASON_LENGTH
    assert last.finished.HasField("time_to_first_token")


async def test_the_text_ends_before_a_stop_text(subject: Subject, tmp_path: Path) -> None:
    """The same answer again ends before a word of it that is a stop text."""
    async with serve(subject, tmp_path) as stub:
        free = text(await generate(stub, asking(max_tokens=12)))
        word = free.split()[1]
        stopped = await generate(stub, asking(max_tokens=12, stop=[word]))
    assert text(stopped) == free.partition(word)[0]
    assert stopped[-1].finished.reason == generation_pb2.FINISH_REASON_STOP


async def test_stop_ends_the_work_with_an_exact_account(subject: Subject, tmp_path: Path) -> None:
    """After stop come CANCELLED and a usage that holds the prompt and what was generated; the engine is idle then."""
    async with serve(subject, tmp_path) as stub:
        async with generating(stub, endless(subject)) as call:
            events = aiter(call)
            seen = [await anext(events) for _ in range(3)]
            await call.write(STOP)
            seen += [event async for event in events]
        await idle(subject)
    finished = seen[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_CANCELLED
    received = sum(event.delta.token_count for event in seen)
    # An engine may have generated one more, of which no text came.
    assert 0 <= finished.usage.completion_tokens - received <= 1
    assert finished.usage.prompt_tokens >= 6


async def test_cancelling_ends_the_engines_work(subject: Subject, tmp_path: Path) -> None:
    """Nothing runs in the engine, nor anywhere on the way there, after the caller has gone; the next one is served."""
    async with serve(subject, tmp_path) as stub:
        async with generating(stub, endless(subject)) as call:
            async for event in call:
                if event.HasField("delta"):
                    break
            assert (await subject.engine())[0] == 1
        await idle_early(subject, stub)
        listed = await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
        assert [model.running for model in listed.models] == [0, 0]
        assert text(await generate(stub, asking(max_tokens=2)))


async def test_cancelling_before_the_first_token_ends_the_engines_work(subject: Subject, tmp_path: Path) -> None:
    """A caller that goes while the prompt is read leaves nothing behind."""
    async with serve(subject, tmp_path) as stub:
        async with generating(stub, endless(subject, "word " * 300)) as call:
            await anext(aiter(call))
        await idle_early(subject, stub)


async def test_a_wrong_request_is_refused_by_its_field(subject: Subject, tmp_path: Path) -> None:
    """An unknown option is refused where it would be used, with each service on the way there in the path."""
    async with serve(subject, tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await generate(stub, ask("plain", QUESTION, options={"speed": 1}))
    assert (caught.value.reason, caught.value.field) == ("FIELD_INVALID", "options.speed")
    assert [hop.service for hop in caught.value.hops] == ["inference"] * subject.services


async def test_a_prompt_beyond_the_context_is_refused(subject: Subject, tmp_path: Path) -> None:
    """CONTEXT_TOO_LONG, wherever the engine is; replay has no limit."""
    async with serve(subject, tmp_path) as stub:
        request = ask("plain", "word " * (CONTEXT_WINDOW + 10))
        if not subject.is_real:
            assert await generate(stub, request)
            return
        with pytest.raises(InvalidArgumentError) as caught:
            await generate(stub, request)
        assert (caught.value.reason, caught.value.field) == ("CONTEXT_TOO_LONG", "messages")
        assert text(await generate(stub, asking(max_tokens=2)))


async def test_tools_are_refused_where_the_model_would_not_see_them(subject: Subject, tmp_path: Path) -> None:
    """None of these models knows tools, and all say so."""
    request = ask("plain", QUESTION, tools=[message_pb2.Tool(name="weather")])
    async with serve(subject, tmp_path) as stub:
        with pytest.raises(InvalidArgumentError) as caught:
            await generate(stub, request)
    assert caught.value.field == "tools"


async def test_a_schema_constrains_the_answer(subject: Subject, tmp_path: Path) -> None:
    """The answer is JSON of the schema's shape; replay refuses to be constrained."""
    form = message_pb2.ResponseFormat(json_schema=json.dumps(SCHEMA))
    request = ask("plain", "Give me JSON.", response_format=form, sampling=sampling(max_tokens=60))
    async with serve(subject, tmp_path) as stub:
        if subject.is_real:
            assert json.loads(text(await generate(stub, request)))["a"] in {1, 2}
            return
        with pytest.raises(InvalidArgumentError) as caught:
            await generate(stub, request)
        assert caught.value.field == "response_format"


async def test_generations_at_the_same_time_keep_apart(subject: Subject, tmp_path: Path) -> None:
    """Two run side by side, and each ends with its own length and account."""
    async with serve(subject, tmp_path) as stub, asyncio.TaskGroup() as group:
        tasks = {limit: group.create_task(generate(stub, endless(subject, max_tokens=limit))) for limit in (5, 9)}
    for limit, task in tasks.items():
        assert task.result()[-1].finished.usage.completion_tokens == limit


@asynccontextmanager
async def serve(subject: Subject, directory: Path) -> AsyncGenerator[Stub]:
    """A service with the subject as its models."""
    models = {
        name: ServedModel(name, subject.kind, backend, subject.places[name])
        for name, backend in zip(NAMES, (subject.plain, subject.endless), strict=True)
    }
    async with serving(Registry(models), directory) as stub:
        yield stub


def asking(**chosen: Any) -> inference_pb2.GenerateOpen:
    """The question, to be answered the same way each time."""
    return ask("plain", QUESTION, sampling=sampling(**chosen))


def endless(subject: Subject, question: str = QUESTION, **chosen: Any) -> inference_pb2.GenerateOpen:
    """A request for an answer that does not end by itself."""
    return ask("endless", question, sampling=sampling(**chosen), options=subject.endless_options)


def sampling(**chosen: Any) -> generation_pb2.Sampling:
    return generation_pb2.Sampling(temperature=0, **chosen)


async def idle(subject: Subject) -> tuple[int, int]:
    """What the engine says when nothing runs in it; fails after the time limit."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            state = await subject.engine()
            if not state[0]:
                return state
            await asyncio.sleep(0.005)


async def idle_early(subject: Subject, stub: Stub) -> None:
    """Returns when nothing runs in the engine. Fails when that takes longer than other work of half a context window.

    Beside that work, a generation that goes on would have another half before it: no clock is needed to tell.
    """
    for _ in range(CONTEXT_WINDOW // 2 // 16):
        if not (await subject.engine())[0]:
            return
        await generate(stub, endless(subject, max_tokens=16))
    pytest.fail("the engine works on")


async def generate(stub: Stub, request: inference_pb2.GenerateOpen) -> list[inference_pb2.GenerateEvent]:
    async with generating(stub, request) as events:
        return [event async for event in events]


def text(events: list[inference_pb2.GenerateEvent]) -> str:
    return "".join(event.delta.text for event in events)
