"""InferenceService over a real socket: checks, admission, events, errors."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shieldmesh import calls
from shieldmesh.errors import InternalError, InvalidArgumentError, MeshError, NotFoundError, ResourceExhaustedError
from shieldmesh.v1 import generation_pb2, inference_pb2, message_pb2

from .serving import MAX_CHARACTERS, TIMEOUT, Stub, ask, configuration, generating, serving, user

ECHO: dict[str, Any] = {"name": "echo", "options": {"echo": True}}
STOP = inference_pb2.GenerateRequest(stop=inference_pb2.GenerateStop())
OPEN = inference_pb2.GenerateRequest(open=ask("slow"))
NEVER_ENDING = {"text": "a b", "pace": 0.001}
USER, TOOL = message_pb2.ROLE_USER, message_pb2.ROLE_TOOL
UNKNOWN_ROLE = message_pb2.Message.FromString(b"\x08\x63")  # the type allows no 99
TEXT = message_pb2.ContentPart(text="hi")


async def test_a_generation_starts_streams_and_finishes(tmp_path: Path) -> None:
    """Started, then the text in deltas whose counts add up to the usage, then finished."""
    async with serving(configuration(ECHO), tmp_path) as stub:
        events = await generate(stub, ask("echo", "one two three"))
    assert [event.WhichOneof("event") for event in events] == ["started", "delta", "delta", "delta", "finished"]
    assert events[0].started.model == "echo"
    assert "".join(event.delta.text for event in events) == "one two three"
    finished = events[-1].finished
    assert finished.reason == generation_pb2.FINISH_REASON_STOP
    assert sum(event.delta.token_count for event in events) == finished.usage.completion_tokens == 3
    assert finished.usage.total_tokens == finished.usage.prompt_tokens + 3
    assert finished.HasField("time_to_first_token")
    assert finished.HasField("duration")


def tool(name: str, schema: str = "") -> message_pb2.Tool:
    return message_pb2.Tool(name=name, parameters_json_schema=schema)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model", {"model": ""}),
        ("messages", {"messages": []}),
        ("messages[0].role", {"messages": [message_pb2.Message(parts=[TEXT])]}),
        ("messages[0].role", {"messages": [UNKNOWN_ROLE]}),
        ("messages[1].parts", {"messages": [user("hi"), message_pb2.Message(role=USER)]}),
        ("messages[0].tool_call_id", {"messages": [message_pb2.Message(role=TOOL, parts=[TEXT])]}),
        ("messages", {"messages": [user("x" * MAX_CHARACTERS), user("x")]}),
        ("sampling.temperature", {"sampling": generation_pb2.Sampling(temperature=2.1)}),
        ("sampling.stop[0]", {"sampling": generation_pb2.Sampling(stop=[""])}),
        ("tools[0].name", {"tools": [tool("no spaces")]}),
        ("tools", {"tools": [tool("fine")]}),
        ("response_format.json_schema", {"response_format": message_pb2.ResponseFormat(json_schema="[")}),
        ("response_format", {"response_format": message_pb2.ResponseFormat(json_schema="{}")}),
        ("options.speed", {"options": {"speed": 1}}),
    ],
)
async def test_bad_input_names_its_field_and_harms_nobody(tmp_path: Path, field: str, changes: dict[str, Any]) -> None:
    """Each wrong request is INVALID_ARGUMENT with the field, and the next request is served."""
    async with serving(configuration(ECHO), tmp_path) as stub:
        request: dict[str, Any] = {"model": "echo", "messages": [user("hi")], **changes}
        with pytest.raises(InvalidArgumentError) as caught:
            await generate(stub, inference_pb2.GenerateOpen(**request))
        assert caught.value.field == field
        assert len(await generate(stub, ask("echo"))) == 3


async def test_an_unknown_model_is_not_found_and_the_known_ones_are_listed(tmp_path: Path) -> None:
    """The error's reason is MODEL_NOT_FOUND, and its text helps."""
    async with serving(configuration(ECHO), tmp_path) as stub:
        with pytest.raises(NotFoundError, match="echo") as caught:
            await generate(stub, ask("nobody"))
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_an_engine_failure_is_typed_and_comes_after_what_was_generated(tmp_path: Path) -> None:
    """What came before the failure arrives; then ENGINE_FAILED with the path."""
    texts: list[str] = []
    async with serving(configuration(ECHO), tmp_path) as stub:
        with pytest.raises(InternalError) as caught:
            async with generating(stub, ask("echo", "a b c", options={"fail_after": 2})) as events:
                texts += [event.delta.text async for event in events if event.HasField("delta")]
    assert caught.value.reason == "ENGINE_FAILED"
    assert [hop.service for hop in caught.value.hops] == ["inference"]


async def test_a_full_model_refuses_and_a_cancelled_waiter_makes_room(tmp_path: Path) -> None:
    """One runs, one waits, one is refused; when the waiter gives up, its place in the queue is free again."""
    only_one = {"name": "slow", "max_running": 1, "max_waiting": 1, "options": NEVER_ENDING}
    async with serving(configuration(only_one, ECHO), tmp_path) as stub:
        async with generating(stub, ask("slow")) as running:
            await anext(aiter(running))
            waiting = asyncio.create_task(generate(stub, ask("slow")))
            await until(stub, "slow", running=1, waiting=1)
            with pytest.raises(ResourceExhaustedError) as caught:
                await generate(stub, ask("slow"))
            assert (caught.value.reason, caught.value.retry_after is not None) == ("QUEUE_FULL", True)
            waiting.cancel()
            await until(stub, "slow", running=1, waiting=0)
            assert len(await generate(stub, ask("echo"))) == 3
        await until(stub, "slow", running=0, waiting=0)


async def test_stop_ends_a_generation_with_its_exact_account(tmp_path: Path) -> None:
    """After stop come the deltas that were generated, then CANCELLED with just as many tokens as the engine counts."""
    async with (
        serving(configuration({"name": "slow", "options": NEVER_ENDING}), tmp_path) as stub,
        generating(stub, ask("slow")) as generation,
    ):
        events = aiter(generation)
        await anext(events)
        await generation.write(STOP)
        rest = [event async for event in events]
        assert rest[-1].finished.reason == generation_pb2.FINISH_REASON_CANCELLED
        received = sum(event.delta.token_count for event in rest)
        await until(stub, "slow", running=0, generated_tokens=received)
        assert rest[-1].finished.usage.completion_tokens == received


async def test_stop_is_heard_while_the_request_waits_for_a_place(tmp_path: Path) -> None:
    """A stopped waiter leaves the queue, and has cost nothing."""
    only_one = {"name": "slow", "max_running": 1, "max_waiting": 1, "options": NEVER_ENDING}
    async with (
        serving(configuration(only_one), tmp_path) as stub,
        generating(stub, ask("slow")) as running,
        generating(stub, ask("slow")) as waiting,
    ):
        await anext(aiter(running))
        await until(stub, "slow", running=1, waiting=1)
        await waiting.write(STOP)
        said = [event async for event in waiting if not event.HasField("progress")]
        assert [event.finished.reason for event in said] == [generation_pb2.FINISH_REASON_CANCELLED]
        await until(stub, "slow", running=1, waiting=0)


@pytest.mark.parametrize(
    "requests", [[STOP], [inference_pb2.GenerateRequest()], [OPEN, OPEN]], ids=["stop first", "empty", "open twice"]
)
async def test_requests_out_of_order_are_refused(tmp_path: Path, requests: list[inference_pb2.GenerateRequest]) -> None:
    """A generation is opened once, and first."""
    async with serving(configuration({"name": "slow", "options": NEVER_ENDING}), tmp_path) as stub:
        with pytest.raises(InvalidArgumentError):
            await say(stub, requests)


async def test_waiting_ends_at_the_deadline(tmp_path: Path) -> None:
    """A call that never gets a place fails at its deadline, and leaves the queue."""
    only_one = {"name": "slow", "max_running": 1, "options": NEVER_ENDING}
    async with (
        serving(configuration(only_one), tmp_path) as stub,
        generating(stub, ask("slow")) as running,
    ):
        await anext(aiter(running))
        with pytest.raises(MeshError) as caught:
            await generate(stub, ask("slow"), seconds=0.2)
        assert caught.value.reason == "DEADLINE_EXCEEDED"
        await until(stub, "slow", running=1, waiting=0)


async def test_concurrent_generations_keep_their_own_text(tmp_path: Path) -> None:
    """32 echoes at once, each cut and paced its own way, come back whole to whom they belong."""
    async with serving(configuration({**ECHO, "max_running": 8}), tmp_path) as stub, asyncio.TaskGroup() as group:
        texts = {f"turn {number} " + "xyz " * number: number for number in range(32)}
        tasks = {
            text: group.create_task(
                generate(stub, ask("echo", text, options={"cut": "random", "seed": seed, "pace": 5000}))
            )
            for text, seed in texts.items()
        }
    for text, task in tasks.items():
        assert "".join(event.delta.text for event in task.result()) == text


async def test_models_are_listed_with_what_they_do(tmp_path: Path) -> None:
    """ListModels tells limits and counters."""
    async with serving(configuration({**ECHO, "max_running": 3}), tmp_path) as stub:
        await generate(stub, ask("echo", "a b"))
        listed = await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
    assert list(listed.models) == [
        inference_pb2.Model(name="echo", backend="replay", max_running=3, generated_tokens=2)
    ]


async def generate(
    stub: Stub, request: inference_pb2.GenerateOpen, seconds: float = TIMEOUT
) -> list[inference_pb2.GenerateEvent]:
    async with generating(stub, request, seconds=seconds) as events:
        return [event async for event in events]


async def say(stub: Stub, requests: list[inference_pb2.GenerateRequest]) -> None:
    async with calls.bidi(stub.Generate, timeout=TIMEOUT) as generation:
        for request in requests:
            await generation.write(request)
        async for _ in generation:
            pass


async def until(stub: Stub, name: str, **expected: int) -> None:
    """Returns when the model's counters are as expected."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            listed = await calls.unary(stub.ListModels, inference_pb2.ListModelsRequest(), timeout=TIMEOUT)
            model = next(model for model in listed.models if model.name == name)
            if all(getattr(model, field) == value for field, value in expected.items()):
                return
            await asyncio.sleep(0.005)
