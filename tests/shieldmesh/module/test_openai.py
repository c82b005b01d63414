"""Modules at OpenAI-compatible servers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import shieldmesh
from shieldmesh import Delta, Finished, FinishReason, Message, Module, Sampling, Started, Tool, ToolCall, Usage
from shieldmesh import http as http_clients
from shieldmesh.module import openai as module
from tests.services.inference.openai.upstream import (
    DONE,
    WHOLE,
    Play,
    Upstream,
    answer,
    broken,
    event,
    refused,
    said,
    silent,
    stalled,
    unhurried,
    upstream,
)

TIMEOUT = 60.0
"""Seconds until a test gives up waiting."""
KEY = "sk-marker"


@asynccontextmanager
async def serving(*plays: Play) -> AsyncGenerator[tuple[Module, Upstream]]:
    """A module of a server with these plays, which gets a key."""
    async with upstream(*plays) as server:
        try:
            yield Module(f"openai+{server.url}/m", api_key=KEY), server
        finally:
            await http_clients.close()


async def test_an_answer() -> None:
    """Text, usage and reason come as of any module; the server gets the key, the model and what is asked."""
    async with serving(answer(*WHOLE)) as (asked, server):
        events = [
            each async for each in asked.chat("hi", sampling=Sampling(temperature=0.0, stop=("x",)), timeout=TIMEOUT)
        ]
    assert isinstance(events[0], Started)
    assert events[0].model == "m"
    assert [each.text for each in events if isinstance(each, Delta)] == ["one", " two"]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].usage) == (FinishReason.STOP, Usage(7, 3, 2, 9))
    (heard,) = server.heard
    assert (heard.path, heard.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert heard.body["model"] == "m"
    assert heard.body["messages"] == [{"role": "user", "content": "hi"}]
    assert (heard.body["temperature"], heard.body["stop"]) == (0.0, ["x"])


async def test_tools_and_their_calls() -> None:
    """Tools, calls and results are said in the server's words; a call comes back in fragments."""
    call: dict[str, Any] = {"index": 0, "id": "c-2", "function": {"name": "weather", "arguments": "{}"}}
    chunk = event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    conversation = [
        Message("user", "weather?"),
        Message("assistant", "", (ToolCall("c-1", "weather", '{"at": 1}'),)),
        Message("tool", "rain", tool_call_id="c-1"),
    ]
    async with serving(answer(chunk, DONE)) as (asked, server):
        tools = [Tool("weather", "Looks out", {"type": "object"})]
        events = [each async for each in asked.chat(conversation, tools=tools, timeout=TIMEOUT)]
    (fragment,) = [each.tool_call for each in events if isinstance(each, Delta)]
    assert fragment is not None
    assert (fragment.id, fragment.name, fragment.arguments) == ("c-2", "weather", "{}")
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == FinishReason.TOOL_CALLS
    body = server.heard[0].body
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert body["messages"][1]["tool_calls"][0]["id"] == "c-1"
    assert body["messages"][2] == {"role": "tool", "content": "rain", "tool_call_id": "c-1"}


@pytest.mark.parametrize(
    ("play", "kind", "reason"),
    [
        (refused(401, {"error": {"message": KEY}}), shieldmesh.FailedPreconditionError, "UPSTREAM_UNAUTHENTICATED"),
        (refused(429, {}, retry_after="7"), shieldmesh.ResourceExhaustedError, "UPSTREAM_BUSY"),
        (refused(500), shieldmesh.UnavailableError, "UPSTREAM_FAILED"),
        (broken(said("one")), shieldmesh.UnavailableError, "UPSTREAM_TRUNCATED"),
        (answer(b"data: nonsense\n\n"), shieldmesh.InternalError, "UPSTREAM_MALFORMED"),
    ],
)
async def test_a_server_that_fails(play: Play, kind: type[shieldmesh.MeshError], reason: str) -> None:
    """Its failures are typed, with the server as the hop, and quote neither the key nor what it said. No retry."""
    async with serving(play) as (asked, server):
        with pytest.raises(kind) as caught:
            await asked.ask("xanadu", timeout=TIMEOUT)
        assert len(server.heard) == 1
    assert caught.value.reason == reason
    assert [hop.service for hop in caught.value.hops] == ["openai"]
    assert KEY not in str(caught.value)
    assert "xanadu" not in str(caught.value)


async def test_a_server_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call's own timeout is a deadline; silence between tokens is the server's failure."""
    async with serving(silent) as (asked, _):
        with pytest.raises(shieldmesh.DeadlineExceededError):
            await asked.ask("hi", timeout=0.05)
    monkeypatch.setattr(module, "SILENCE", 0.05)
    async with serving(stalled(said("one"))) as (asked, _):
        with pytest.raises(shieldmesh.UnavailableError) as caught:
            await asked.ask("hi", timeout=TIMEOUT)
    assert caught.value.reason == "UPSTREAM_TIMEOUT"


async def test_leaving_closes_the_connection() -> None:
    """A reader that leaves has the server see it go, and stop."""
    async with serving(stalled(said("one"))) as (asked, server):
        async with asked.chat("hi", timeout=TIMEOUT) as reading:
            async for each in reading:
                if isinstance(each, Delta):
                    break
            assert server.open == 1
        async with asyncio.timeout(TIMEOUT):
            while True:
                if not server.open:
                    break
                await asyncio.sleep(0.001)


async def test_answers_share_a_connection() -> None:
    """One after the other go over one connection; the key comes from the variable that the URL names."""
    async with upstream(answer(*WHOLE)) as server:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("SOME_KEY", f" {KEY}\n")
            asked = Module(f"openai+{server.url}?model=m&key_env=SOME_KEY")
        with unhurried():
            assert [await asked.chat("hi", timeout=TIMEOUT).text() for _ in range(3)] == ["one two"] * 3
        assert server.accepted == 1
        assert {heard.headers["authorization"] for heard in server.heard} == {f"Bearer {KEY}"}
        await http_clients.close()
