"""Histories of conversations, through the orchestrator's own services."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.sessions.history import estimate
from shieldmesh import calls, channels, context
from shieldmesh.context import RequestContext
from shieldmesh.errors import InvalidArgumentError, MeshError, NotFoundError
from shieldmesh.v1 import (
    chat_pb2,
    generation_pb2,
    inference_pb2,
    message_pb2,
    policy_pb2,
    session_pb2,
    session_pb2_grpc,
    shield_pb2,
)
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Asked,
    Generated,
    Script,
    Stub,
    begun,
    ended,
    guards,
    message,
    profile,
    said,
    serving,
)

KEEP = {"history": {"mode": "keep"}}
SYSTEM, ASSISTANT, TOOL = message_pb2.ROLE_SYSTEM, message_pb2.ROLE_ASSISTANT, message_pb2.ROLE_TOOL
Turn = Sequence[message_pb2.Message] | str
Says = Callable[[inference_pb2.GenerateOpen], Sequence[generation_pb2.Delta | str]]


def counts(opening: inference_pb2.GenerateOpen) -> Sequence[str]:
    """Says how many messages it was shown."""
    return ["shown ", str(len(opening.messages))]


@dataclass
class Model:
    """Notes what it is shown, and answers."""

    says: Says = counts
    shown: list[inference_pb2.GenerateOpen] = field(default_factory=list[inference_pb2.GenerateOpen])

    async def generate(self, requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        self.shown.append(opening)
        yield begun()
        deltas = self.says(opening)
        for delta in deltas:
            yield said(delta)
        calls_tools = any(not isinstance(delta, str) and delta.HasField("tool_call") for delta in deltas)
        yield ended(len(deltas), "FINISH_REASON_TOOL_CALLS" if calls_tools else "FINISH_REASON_STOP")

    def last(self) -> list[tuple[str, str]]:
        """What it was shown last, as roles and texts."""
        return said_in(self.shown[-1].messages)


def said_in(messages: Sequence[message_pb2.Message]) -> list[tuple[str, str]]:
    return [
        (message_pb2.Role.Name(each.role).removeprefix("ROLE_").lower(), "".join(part.text for part in each.parts))
        for each in messages
    ]


async def talk(
    stub: Stub, turn: Turn, *, session: str = "s", tenant: str = "", name: str = "test", **fields: Any
) -> list[chat_pb2.ChatEvent]:
    """All events of a turn of a session."""
    messages = [message(turn)] if isinstance(turn, str) else turn
    request = chat_pb2.ChatRequest(profile=name, messages=messages, **fields)
    with context.use(RequestContext(session_id=session, tenant_id=tenant)):
        async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
            return [event async for event in stream]


def sessions_of(directory: Path) -> "session_pb2_grpc.SessionServiceAsyncStub":
    return session_pb2_grpc.SessionServiceStub(channels.get(f"unix:{directory / 'orchestrator.sock'}"))


async def ask(rpc: Any, request: Any, *, session: str = "s", tenant: str = "") -> Any:
    with context.use(RequestContext(session_id=session, tenant_id=tenant)):
        return await calls.unary(rpc, request, timeout=TIMEOUT)


async def kept(directory: Path, session: str = "s", tenant: str = "") -> list[list[tuple[str, str]]]:
    """What is kept of a session, by turn."""
    request = session_pb2.ListTurnsRequest(session_id=session)
    answer = await ask(sessions_of(directory).ListTurns, request, session=session, tenant=tenant)
    return [said_in(turn.messages) for turn in answer.turns]


def bytes_in(directory: Path) -> bytes:
    """All that is in the databases, deleted or not."""
    return b"".join(file.read_bytes() for file in directory.glob("*.db*"))


@asynccontextmanager
async def model(directory: Path, *, says: Says = counts, **more: Any) -> AsyncGenerator[tuple[Stub, Model]]:
    """An orchestrator with a profile that keeps histories, and the model behind it."""
    playing = Model(says)
    async with serving(Script(generate=playing.generate), directory, profile(**KEEP), **more) as stub:
        yield stub, playing


async def test_the_model_is_shown_the_history_and_what_is_new(tmp_path: Path) -> None:
    """Of each turn a client sends what is new; instructions come first, and are not kept."""
    async with model(tmp_path) as (stub, playing):
        await talk(stub, "one")
        assert playing.last() == [("user", "one")]
        await talk(stub, [message("be brief", role=SYSTEM), message("two")])
        assert playing.last() == [("system", "be brief"), ("user", "one"), ("assistant", "shown 1"), ("user", "two")]
        await talk(stub, "three")
        assert playing.last() == [
            *[("user", "one"), ("assistant", "shown 1")],
            *[("user", "two"), ("assistant", "shown 4")],
            ("user", "three"),
        ]
        await talk(stub, "else", session="other")
        assert playing.last() == [("user", "else")]


async def test_the_profile_decides_who_keeps_it(tmp_path: Path) -> None:
    """A caller may say otherwise where the profile lets it; without a word the profile's holds."""
    playing = Model()
    profiles = [
        profile("none"),
        profile("keep", **KEEP, prompt="Be kind."),
        profile("free", allow_overrides=["history"]),
    ]
    async with serving(Script(generate=playing.generate), tmp_path, *profiles) as stub:
        for name, asked in (("none", chat_pb2.HISTORY_KEEP), ("keep", chat_pb2.HISTORY_NONE)):
            with pytest.raises(InvalidArgumentError, match="does not let callers set history") as refused:
                await talk(stub, "x", name=name, history=asked)
            assert (refused.value.reason, refused.value.field) == ("OVERRIDE_NOT_ALLOWED", "history")
        await talk(stub, "one", name="free")
        await talk(stub, "two", name="free", history=chat_pb2.HISTORY_KEEP)
        assert playing.last() == [("user", "two")]
        await talk(stub, "three", name="keep", history=chat_pb2.HISTORY_KEEP)
        assert playing.last() == [("system", "Be kind."), ("user", "two"), ("assistant", "shown 1"), ("user", "three")]
        with pytest.raises(InvalidArgumentError, match="name one"):
            await talk(stub, "x", name="keep", session="")
        with pytest.raises(InvalidArgumentError, match="expected one of none, keep"):
            await talk(stub, "x", name="free", history=7)


async def test_kept_is_what_the_shields_made_of_it(tmp_path: Path) -> None:
    """Redacted input stays redacted, in the file, too, and of the answer is kept what left."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        edits = [
            shield_pb2.Edit(
                text_index=index, start=text.index("secret"), end=text.index("secret") + 6, replacement="[X]"
            )
            for index, text in enumerate(request.texts)
            if "secret" in text
        ]
        return shield_pb2.InspectResponse(edits=edits)

    async def inspect_stream(requests: Any) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        await anext(requests)
        async for request in requests:
            text = request.text
            edits = [shield_pb2.Edit(start=0, end=len("hidden"), replacement="[Y]")] if not text.end else []
            seen = text.offset + len(text.text)
            clearance = shield_pb2.Clearance(lane=text.lane, watermark=seen, seen=seen, edits=edits)
            yield shield_pb2.InspectStreamResponse(clearance=clearance)

    playing = Model(lambda _: ["hidden thing"])
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=playing.generate)
    guarded = profile(**KEEP, input={**guards(), "mode": "gate"}, output=guards())
    async with serving(script, tmp_path, guarded, sessions=str(tmp_path / "sessions.db")) as stub:
        await talk(stub, "my secret plan")
        assert await kept(tmp_path) == [[("user", "my [X] plan"), ("assistant", "[Y] thing")]]
        await talk(stub, "go on")
        assert playing.last() == [("user", "my [X] plan"), ("assistant", "[Y] thing"), ("user", "go on")]
        files = bytes_in(tmp_path)
        assert b"[X] plan" in files
        assert b"secret" not in files
        assert b"hidden" not in files


async def test_shields_see_the_history_again(tmp_path: Path) -> None:
    """Behind the texts of the request, whose numbers do not change; what they redact now the model sees redacted."""
    seen: list[list[str]] = []

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        seen.append(list(request.texts))
        edits = [shield_pb2.Edit(text_index=index, start=0, end=3, replacement="[X]") for index in (2, 4)]
        return shield_pb2.InspectResponse(edits=edits if len(request.texts) > 2 else [])

    tool = generation_pb2.ToolCallDelta(id="c", name="f", arguments="{'a': 1}")
    playing = Model(lambda opening: [generation_pb2.Delta(tool_call=tool)] if len(opening.messages) == 1 else ["done"])
    strict = profile("strict", **KEEP, input={**guards(), "mode": "gate"})
    script = Script(inspect=inspect, generate=playing.generate)
    async with serving(script, tmp_path, profile(**KEEP), strict) as stub:
        await talk(stub, "one")
        await talk(stub, [message("two", role=TOOL, tool_call_id="c"), message("three")], name="strict")
        assert seen == [["two", "three", "one", "", "{'a': 1}"]]
        assert playing.last() == [("user", "[X]"), ("assistant", ""), ("tool", "two"), ("user", "three")]
        assert playing.shown[-1].messages[1].tool_calls[0].arguments == "[X]': 1}"
        assert await kept(tmp_path) == [
            [("user", "one"), ("assistant", "")],
            [("tool", "two"), ("user", "three"), ("assistant", "done")],
        ]


async def test_calls_of_tools_and_their_results(tmp_path: Path) -> None:
    """A client answers a call with the result alone; a result that nobody asked for is refused, and changes nothing."""
    tool = generation_pb2.ToolCallDelta(id="call-1", name="weather", arguments='{"city": "Oslo"}')

    def says(opening: inference_pb2.GenerateOpen) -> Sequence[generation_pb2.Delta | str]:
        return ["It rains."] if opening.messages[-1].role == TOOL else [generation_pb2.Delta(tool_call=tool)]

    async with model(tmp_path, says=says) as (stub, playing):
        with pytest.raises(InvalidArgumentError, match="not in the history") as refused:
            await talk(stub, [message("rain", role=TOOL, tool_call_id="call-1")])
        assert refused.value.field == "messages.tool_call_id"
        await talk(stub, "How is the weather?")
        await talk(stub, [message("rain", role=TOOL, tool_call_id="call-1")])
        assert playing.last() == [("user", "How is the weather?"), ("assistant", ""), ("tool", "rain")]
        (call,) = playing.shown[-1].messages[1].tool_calls
        assert (call.id, call.name, call.arguments) == ("call-1", "weather", '{"city": "Oslo"}')
        assert len(await kept(tmp_path)) == 2


async def test_turns_without_an_answer_are_not_kept(tmp_path: Path) -> None:
    """Those that a shield blocked, before or in the middle, and those that failed; the conversation goes on without."""

    async def inspect(request: shield_pb2.InspectRequest) -> shield_pb2.InspectResponse:
        blocks = "bad" in request.texts[0]
        verdict = policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)
        return shield_pb2.InspectResponse(verdicts=[verdict] if blocks else [])

    async def inspect_stream(requests: Any) -> AsyncGenerator[shield_pb2.InspectStreamResponse]:
        await anext(requests)
        async for request in requests:
            text = request.text
            seen = text.offset + len(text.text)
            blocks = "worse" in text.text
            verdicts = [policy_pb2.Verdict(shield="pii", action=policy_pb2.ACTION_BLOCK)] if blocks else []
            clearance = shield_pb2.Clearance(lane=text.lane, watermark=seen - blocks, seen=seen, verdicts=verdicts)
            yield shield_pb2.InspectStreamResponse(clearance=clearance)

    def says(opening: inference_pb2.GenerateOpen) -> Sequence[str]:
        text = opening.messages[-1].parts[0].text
        if text == "fail":
            raise InvalidArgumentError("no", field="messages")
        return [] if text == "silent" else ["some ", text]

    playing = Model(says)
    script = Script(inspect=inspect, inspect_stream=inspect_stream, generate=playing.generate)
    async with serving(script, tmp_path, profile(**KEEP, input=guards("block"), output=guards("block"))) as stub:
        await talk(stub, "first")
        for text in ("bad", "worse", "silent"):
            await talk(stub, text)
        with pytest.raises(InvalidArgumentError):
            await talk(stub, "fail")
        await talk(stub, "last")
        assert playing.last() == [("user", "first"), ("assistant", "some first"), ("user", "last")]


async def test_a_turn_that_is_stopped_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    """Who stops an answer goes on behind what there is of it."""
    playing = Model()
    stopped = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        if playing.shown:
            async for event in playing.generate(requests):
                yield event
            return
        playing.shown.append((await anext(requests)).open)
        yield begun()
        yield said("half an ")
        await anext(requests)  # stop
        stopped.set()
        yield ended(1, "FINISH_REASON_CANCELLED")

    async with serving(Script(generate=generate), tmp_path, profile(**KEEP)) as stub:
        request = chat_pb2.ChatRequest(profile="test", messages=[message("one")])
        with context.use(RequestContext(session_id="s")):
            async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
                events = aiter(stream)
                cancel = chat_pb2.CancelTurnRequest(turn_id=(await anext(events)).started.turn_id)
                await anext(events)
                await calls.unary(stub.CancelTurn, cancel, timeout=TIMEOUT)
                assert [event.WhichOneof("event") async for event in events] == ["finished"]
        assert stopped.is_set()
        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "half an "), ("user", "two")]


async def test_two_turns_at_once(tmp_path: Path) -> None:
    """Both see the history as it was when they began; they are kept whole, in the order in which they end."""
    gates = {"slow": asyncio.Event(), "quick": asyncio.Event()}
    playing = Model()
    both = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        opening = (await anext(requests)).open
        playing.shown.append(opening)
        text = opening.messages[-1].parts[0].text
        if len(playing.shown) == 3:
            both.set()
        yield begun()
        if text in gates:
            await gates[text].wait()
        yield said(f"to {text}")
        yield ended(1)

    async with serving(Script(generate=generate), tmp_path, profile(**KEEP)) as stub:
        await talk(stub, "first")
        slow, quick = (asyncio.create_task(talk(stub, name)) for name in ("slow", "quick"))
        async with asyncio.timeout(TIMEOUT):
            await both.wait()
        for gate, turn in (("quick", quick), ("slow", slow)):
            gates[gate].set()
            await turn
        assert all(
            said_in(each.messages)[:-1] == [("user", "first"), ("assistant", "to first")] for each in playing.shown[1:]
        )
        await talk(stub, "last")
        assert [text for _, text in playing.last()] == [
            *("first", "to first", "quick", "to quick", "slow", "to slow", "last"),
        ]


async def test_who_hears_of_the_end_can_go_on(tmp_path: Path) -> None:
    """A turn is kept before its client gets `finished`: the next one need not wait for the call to end."""
    async with model(tmp_path) as (stub, playing):
        request = chat_pb2.ChatRequest(profile="test", messages=[message("one")])
        with context.use(RequestContext(session_id="s")):
            async with calls.stream(stub.Chat, request, timeout=TIMEOUT) as stream:
                async for event in stream:
                    if event.HasField("finished"):
                        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "shown 1"), ("user", "two")]


async def test_the_history_is_bounded(tmp_path: Path) -> None:
    """However long the conversation, what the model is shown of it, and what is kept, stays under the limit."""
    bound = 150
    playing = Model()
    small = profile(history={"mode": "keep", "tokens": bound})
    async with serving(Script(generate=playing.generate), tmp_path, small) as stub:
        for number in range(12):
            await talk(stub, f"question {number} " + "x" * 100)
            assert estimate(playing.shown[-1].messages[:-1]) <= bound
        *history, _ = playing.shown[-1].messages
        assert len(history) == 6
        assert [text.split()[1] for _, text in said_in(history)[::2]] == ["8", "9", "10"]
        turns = await kept(tmp_path)
        assert len(turns) == 3
        # One that takes all the room by itself is answered, and then forgotten.
        await talk(stub, "x" * 1_000)
        await talk(stub, "short")
        assert playing.last() == [("user", "short")]


async def test_the_characters_of_a_request_count_with_its_history(tmp_path: Path) -> None:
    """What the profile takes of a request at most is not exceeded by what is added to it."""
    playing = Model(lambda _: ["y" * 40])
    small = profile(**KEEP, limits={"input_characters": 150})
    async with serving(Script(generate=playing.generate), tmp_path, small) as stub:
        for _ in range(3):
            await talk(stub, "x" * 40)
        assert len(playing.last()) == 3
        await talk(stub, "x" * 140)
        assert len(playing.last()) == 1


async def test_a_restart(tmp_path: Path) -> None:
    """A conversation goes on behind a restart of the service, when its file is kept."""
    file = str(tmp_path / "sessions.db")
    async with model(tmp_path, sessions=file) as (stub, _):
        await talk(stub, "one")
    async with model(tmp_path, sessions=file) as (stub, playing):
        await talk(stub, "two")
        assert playing.last() == [("user", "one"), ("assistant", "shown 1"), ("user", "two")]


async def test_sessions_are_shown_to_their_owner(tmp_path: Path) -> None:
    """Its tenant sees a session and its turns, in pages; nobody else can tell whether there is one."""
    async with model(tmp_path) as (stub, _):
        for session in ("b", "a", "c"):
            for text in ("one", "two"):
                await talk(stub, text, session=session, tenant="acme")
        await talk(stub, "mine", session="a", tenant="other")
        service = sessions_of(tmp_path)
        listed = await ask(service.ListSessions, session_pb2.ListSessionsRequest(page_size=2), tenant="acme")
        assert [each.session_id for each in listed.sessions] == ["a", "b"]
        request = session_pb2.ListSessionsRequest(page_token=listed.next_page_token)
        rest = await ask(service.ListSessions, request, tenant="acme")
        assert ([each.session_id for each in rest.sessions], rest.next_page_token) == (["c"], "")
        session = (await ask(service.GetSession, session_pb2.GetSessionRequest(session_id="b"), tenant="acme")).session
        assert session.turns == 2
        assert session.created_at.ToSeconds() <= session.used_at.ToSeconds() < session.expires_at.ToSeconds()
        page = await ask(service.ListTurns, session_pb2.ListTurnsRequest(session_id="b", page_size=1), tenant="acme")
        (first,) = page.turns
        assert (said_in(first.messages), first.profile) == ([("user", "one"), ("assistant", "shown 1")], "test")
        assert first.usage.total_tokens == 5
        behind = session_pb2.ListTurnsRequest(session_id="b", page_token=page.next_page_token)
        after = await ask(service.ListTurns, behind, tenant="acme")
        assert ([said_in(turn.messages)[0][1] for turn in after.turns], after.next_page_token) == (["two"], "")
        assert await kept(tmp_path, "a", "other") == [[("user", "mine"), ("assistant", "shown 1")]]
        for tenant in ("other", ""):
            for rpc, asking in (
                (service.GetSession, session_pb2.GetSessionRequest(session_id="b")),
                (service.ListTurns, session_pb2.ListTurnsRequest(session_id="b")),
                (service.DeleteSession, session_pb2.DeleteSessionRequest(session_id="b")),
            ):
                with pytest.raises(NotFoundError) as refused:
                    await ask(rpc, asking, tenant=tenant, session="b")
                assert refused.value.reason == "SESSION_NOT_FOUND"


async def test_where_nobody_is_authenticated_the_session_is_the_key(tmp_path: Path) -> None:
    """Who knows a session's id sees that one, and cannot list others."""
    async with model(tmp_path) as (stub, _):
        await talk(stub, "one", session="mine")
        await talk(stub, "two", session="yours")
        service = sessions_of(tmp_path)
        listed = await ask(service.ListSessions, session_pb2.ListSessionsRequest(), session="mine")
        assert [each.session_id for each in listed.sessions] == ["mine"]
        listed = await ask(service.ListSessions, session_pb2.ListSessionsRequest(), session="nobody")
        assert not listed.sessions
        with pytest.raises(NotFoundError):
            await ask(service.GetSession, session_pb2.GetSessionRequest(session_id="yours"), session="mine")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetSession", session_pb2.GetSessionRequest(), "session_id"),
        ("DeleteSession", session_pb2.DeleteSessionRequest(session_id="a b"), "session_id"),
        ("ListTurns", session_pb2.ListTurnsRequest(session_id="s", page_size=101), "page_size"),
        ("ListTurns", session_pb2.ListTurnsRequest(session_id="s", page_token="eA=="), "page_token"),
        ("ListTurns", session_pb2.ListTurnsRequest(session_id="s", page_token="!"), "page_token"),
        ("ListSessions", session_pb2.ListSessionsRequest(page_token="/w=="), "page_token"),
        ("ListSessions", session_pb2.ListSessionsRequest(page_token="IA=="), "page_token"),
    ],
)
async def test_bad_questions_name_their_field(tmp_path: Path, method: str, request_: Any, field: str) -> None:
    """Ids, sizes and tokens are checked."""
    async with model(tmp_path) as (stub, _):
        await talk(stub, "one")
        with pytest.raises(InvalidArgumentError) as refused:
            await ask(getattr(sessions_of(tmp_path), method), request_)
        assert refused.value.field == field


async def test_deleted_is_deleted(tmp_path: Path) -> None:
    """Behind the response nothing of a session is in any file: not what was said, not what the turn log had of it."""
    says: Says = lambda _: ["purple ", "elephant"]  # noqa: E731  # as the others
    files = {"log_file": tmp_path / "turns.db", "sessions": str(tmp_path / "sessions.db")}
    async with model(tmp_path, says=says, **files) as (stub, playing):
        events = await talk(stub, "yellow submarine")
        turn = events[0].started.turn_id
        await talk(stub, "stays", session="other")
        found = bytes_in(tmp_path)
        assert b"yellow submarine" in found
        await ask(sessions_of(tmp_path).DeleteSession, session_pb2.DeleteSessionRequest(session_id="s"))
        found = bytes_in(tmp_path)
        assert b"yellow submarine" not in found
        assert turn.encode() not in found
        with pytest.raises(NotFoundError):
            await ask(stub.GetTurn, chat_pb2.GetTurnRequest(turn_id=turn))
        with pytest.raises(NotFoundError):
            await kept(tmp_path)
        assert len(await kept(tmp_path, "other")) == 1
        await talk(stub, "again")
        assert playing.last() == [("user", "again")]


async def test_a_turn_that_runs_goes_with_its_session(tmp_path: Path) -> None:
    """Its readers get its end, and nothing of it is kept or logged afterwards."""
    stopped = asyncio.Event()

    async def generate(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("half an ")
        await anext(requests)  # stop
        stopped.set()
        yield ended(1, "FINISH_REASON_CANCELLED")

    async with serving(Script(generate=generate), tmp_path, profile(**KEEP)) as stub:
        running = asyncio.create_task(talk(stub, "one"))
        service = sessions_of(tmp_path)
        session = session_pb2.GetSessionRequest(session_id="s")
        async with asyncio.timeout(TIMEOUT):
            while not await _exists(service, session):  # noqa: ASYNC110  # it says nothing when it begins
                await asyncio.sleep(0.01)
            await ask(service.DeleteSession, session_pb2.DeleteSessionRequest(session_id="s"))
            events = await running
        assert stopped.is_set()
        assert events[-1].finished.reason == generation_pb2.FINISH_REASON_CANCELLED
        assert not await _exists(service, session)
        with pytest.raises(NotFoundError):
            await ask(stub.GetTurn, chat_pb2.GetTurnRequest(turn_id=events[0].started.turn_id))


async def _exists(service: "session_pb2_grpc.SessionServiceAsyncStub", session: session_pb2.GetSessionRequest) -> bool:
    try:
        await ask(service.GetSession, session)
    except MeshError:
        return False
    return True
