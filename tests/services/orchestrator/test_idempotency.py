"""Requests that come again with the same key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.log.sqlite import SqliteLog
from services.orchestrator.log.turn_log import Claim, Record
from shieldmesh import calls, context
from shieldmesh.context import RequestContext, new_id
from shieldmesh.errors import InternalError, InvalidArgumentError, UnavailableError
from shieldmesh.v1 import chat_pb2

from . import serving
from .serving import TIMEOUT, Asked, Generated, Script, Stub, begun, ended, message, profile, said, text_of


class Counted:
    """A model that says which of its generations this is, and more when it is let."""

    def __init__(self, *, fail: int = 0) -> None:
        """Lets the first so many fail."""
        self.generations = 0
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._fail = fail

    async def generate(self, requests: Asked) -> Generated:
        await anext(requests)
        self.generations += 1
        self.asked.set()
        yield begun()
        yield said(f"generation {self.generations}")
        if self.generations <= self._fail:
            return  # without its end
        await self.go.wait()
        yield said(" and its end")
        yield ended(2)


@asynccontextmanager
async def serving_one(model: Counted, directory: Path, **policy: Any) -> AsyncGenerator[Stub]:
    async with serving.serving(Script(generate=model.generate), directory, profile(**policy)) as stub:
        yield stub


def request(key: str = "k", text: str = "hi", **fields: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(profile="test", messages=[message(text)], idempotency_key=key, **fields)


async def ask(
    stub: Stub, asked: chat_pb2.ChatRequest, *, session: str = "s", tenant: str = "", turn: str = ""
) -> list[chat_pb2.ChatEvent]:
    """All events that the request is answered with."""
    with context.use(RequestContext(session_id=session, tenant_id=tenant, request_id=turn or new_id())):
        async with calls.stream(stub.Chat, asked, timeout=TIMEOUT) as events:
            return [event async for event in events]


async def test_the_same_key_is_the_same_turn(tmp_path: Path) -> None:
    """Who asks again, while the turn runs and after it, gets its events from the first one; one turn was generated."""
    model = Counted()
    async with serving_one(model, tmp_path) as stub:
        asking = [asyncio.create_task(ask(stub, request())) for _ in range(8)]
        await asyncio.wait_for(model.asked.wait(), TIMEOUT)
        model.go.set()
        first, *others = await asyncio.gather(*asking)
        assert text_of(first) == "generation 1 and its end"
        assert others == [first] * 7
        assert await ask(stub, request()) == first
    assert model.generations == 1


async def test_the_first_caller_may_be_gone(tmp_path: Path) -> None:
    """Its connection broke, and the turn would end with it: who asks again takes it over."""
    model = Counted()
    async with serving_one(model, tmp_path, reconnect_grace=3600) as stub:
        with context.use(RequestContext(session_id="s", request_id="turn-1")):
            async with calls.stream(stub.Chat, request(), timeout=TIMEOUT) as events:
                await events.read()
        again = asyncio.create_task(ask(stub, request()))
        model.go.set()
        assert text_of(await again) == "generation 1 and its end"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"key": "a"}, {"key": "b"}),
        ({"session": "a"}, {"session": "b"}),
        ({"tenant": "a"}, {"tenant": "b"}),
        ({"tenant": "s", "session": "s"}, {"tenant": "", "session": "s"}),
        ({"key": ""}, {"key": ""}),
    ],
    ids=["keys", "sessions", "tenants", "a tenant and a session of one name", "no key"],
)
async def test_other_keys_are_other_turns(tmp_path: Path, one: dict[str, str], other: dict[str, str]) -> None:
    """A key is one of its owner's alone, and no key is none."""
    model = Counted()
    model.go.set()
    async with serving_one(model, tmp_path) as stub:
        for number, who in enumerate((one, other), start=1):
            answer = await ask(stub, request(who.get("key", "k")), **{k: v for k, v in who.items() if k != "key"})
            assert text_of(answer) == f"generation {number} and its end"


async def test_a_tenants_key_holds_over_its_sessions(tmp_path: Path) -> None:
    """Who is authenticated need not keep the session."""
    model = Counted()
    model.go.set()
    async with serving_one(model, tmp_path) as stub:
        first = await ask(stub, request(), tenant="acme", session="a")
        assert await ask(stub, request(), tenant="acme", session="b") == first


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (request(text="another"), "IDEMPOTENCY_KEY_REUSED"),
        (request(disconnect=chat_pb2.DISCONNECT_CANCEL), "IDEMPOTENCY_KEY_REUSED"),
        (request("not a key"), "FIELD_INVALID"),
        (request("k" * 129), "FIELD_INVALID"),
    ],
)
async def test_what_is_refused(tmp_path: Path, second: chat_pb2.ChatRequest, reason: str) -> None:
    """Another request with the key, and what is no key."""
    model = Counted()
    model.go.set()
    async with serving_one(model, tmp_path) as stub:
        await ask(stub, request())
        with pytest.raises(InvalidArgumentError) as failure:
            await ask(stub, second)
    assert (failure.value.field, failure.value.reason) == ("idempotency_key", reason)
    assert model.generations == 1


async def test_a_turn_that_failed_frees_its_key(tmp_path: Path) -> None:
    """Who asks again gets a new one, and all who ask after that the same."""
    model = Counted(fail=2)
    model.go.set()
    async with serving_one(model, tmp_path) as stub:
        for _ in range(2):
            with pytest.raises(InternalError):
                await ask(stub, request())
        answers = await asyncio.gather(*(ask(stub, request()) for _ in range(4)))
    assert [text_of(answer) for answer in answers] == ["generation 3 and its end"] * 4


async def test_a_turn_that_never_began_frees_its_key(tmp_path: Path) -> None:
    """Its process died after the claim; who asks again waits a moment for it and begins its own."""
    model = Counted()
    model.go.set()
    async with serving_one(model, tmp_path) as stub, AsyncExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())

        def dies(*_: object) -> None:
            raise RuntimeError

        patched.setattr("services.orchestrator.running.RunningTurns.start", dies)
        with pytest.raises(InternalError):
            await ask(stub, request())
        patched.undo()
        assert text_of(await ask(stub, request())) == "generation 1 and its end"


async def test_a_turn_that_is_about_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again before the log knows the turn, as another replica may, waits for it."""
    model = Counted()
    model.go.set()
    find, unknown = SqliteLog.find, 3

    async def late(log: SqliteLog, turn: str) -> Record | None:
        nonlocal unknown
        unknown -= 1
        return await find(log, turn) if unknown < 0 else None

    async with serving_one(model, tmp_path) as stub:
        first = await ask(stub, request())
        monkeypatch.setattr(SqliteLog, "find", late)
        assert await ask(stub, request()) == first


async def test_a_call_that_grpc_repeats(tmp_path: Path) -> None:
    """The same call of the same turn, which a broken connection made twice, is one turn."""
    model = Counted()
    async with serving_one(model, tmp_path) as stub:
        asking = [asyncio.create_task(ask(stub, request(), turn="turn-1")) for _ in range(2)]
        model.go.set()
        first, second = await asyncio.gather(*asking)
    assert first == second
    assert model.generations == 1


async def test_a_log_that_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs no turn: it runs, and the key protects from nothing."""

    async def fails(*_: object) -> Claim:
        raise UnavailableError("the turn log cannot be reached")

    monkeypatch.setattr(SqliteLog, "claim", fails)
    model = Counted()
    model.go.set()
    async with serving_one(model, tmp_path) as stub:
        assert text_of(await ask(stub, request())) == "generation 1 and its end"
        assert text_of(await ask(stub, request())) == "generation 2 and its end"
