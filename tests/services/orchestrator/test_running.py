"""Turns that are resumed, fetched, cancelled, and left alone by their callers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.log.backlog import Backlog
from services.orchestrator.log.sqlite import SqliteLog
from shieldmesh import calls, context
from shieldmesh.context import RequestContext
from shieldmesh.errors import (
    CancelledCallError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MeshError,
    NotFoundError,
    UnavailableError,
)
from shieldmesh.v1 import chat_pb2, generation_pb2

from . import serving
from .serving import TIMEOUT, Asked, Generated, Script, Stub, begun, ended, message, profile, said, text_of

OURS = RequestContext(session_id="s-1", request_id="turn-1")
DETACH = {"disconnect": "detach"}
DRAIN = {"disconnect": "drain"}


class Model:
    """A model that says a word whenever it is let, and notes how it ended."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.stopped = asyncio.Event()

    async def generate(self, requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        heard = asyncio.ensure_future(self._hear(requests))
        tokens = 0
        try:
            while not self.stopped.is_set():
                word = asyncio.ensure_future(self.words.get())
                await asyncio.wait([word, heard], return_when=asyncio.FIRST_COMPLETED)
                if not word.done():
                    word.cancel()
                    break
                if word.result() == "":
                    break
                tokens += 1
                yield said(word.result())
            yield ended(tokens)
        finally:
            heard.cancel()
            self.stopped.set()

    async def _hear(self, requests: Asked) -> None:
        async for request in requests:
            if request.HasField("stop"):
                self.stopped.set()
                return

    def say(self, *words: str) -> None:
        for word in words:
            self.words.put_nowait(word)


def request(**fields: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(profile="test", messages=[message("hi")], **fields)


async def begin(stub: Stub, model: Model, asked: chat_pb2.ChatRequest | None = None) -> chat_pb2.ChatEvent:
    """Begins the turn, reads its start and one word, and goes away; the word's event."""
    async with calls.stream(stub.Chat, asked or request(), timeout=TIMEOUT) as events:
        started = await events.read()
        assert isinstance(started, chat_pb2.ChatEvent)
        assert started.started.turn_id == "turn-1"
        model.say("one ")
        event = await events.read()
        assert isinstance(event, chat_pb2.ChatEvent)
        return event


async def resume(stub: Stub, after: int = 0, turn: str = "turn-1") -> list[chat_pb2.ChatEvent]:
    """The rest of the turn; sees that the numbers go on."""
    heard: list[chat_pb2.ChatEvent] = []
    asked = chat_pb2.ResumeRequest(turn_id=turn, after_sequence=after)
    async with calls.stream(stub.Resume, asked, timeout=TIMEOUT) as events:
        event: chat_pb2.ChatEvent
        async for event in events:
            heard.append(event)
            assert event.sequence == after + len(heard)
    return heard


async def fetch(stub: Stub, turn: str = "turn-1") -> chat_pb2.GetTurnResponse:
    return await calls.unary(stub.GetTurn, chat_pb2.GetTurnRequest(turn_id=turn), timeout=TIMEOUT)


async def test_a_turn_can_be_read_again(tmp_path: Path) -> None:
    """What the first reader got is what any later one gets, event for event, from wherever it asks."""
    script = Script(generate=serving.says("one ", "two ", "three"))
    async with serving.serving(script, tmp_path, profile(output=serving.guards())) as stub:
        with context.use(OURS):
            first = await serving.run(stub)
            for after in range(len(first) + 1):
                assert await resume(stub, after) == first[after:]


async def test_a_turn_larger_than_a_message(tmp_path: Path) -> None:
    """What does not fit into one answer is told to be missing, and is what resuming gives after the last event."""
    pieces = [chr(65 + number) * 500_000 for number in range(12)]
    script = Script(generate=serving.says(*pieces))
    async with serving.serving(script, tmp_path, profile(), backlog=50_000_000) as stub:
        with context.use(OURS):
            whole = await serving.run(stub)
            fetched = await fetch(stub)
            rest = await resume(stub, fetched.events[-1].sequence)
    assert (fetched.partial, fetched.state) == (True, chat_pb2.TURN_STATE_FINISHED)
    assert text_of(list(fetched.events)) + text_of(rest) == text_of(whole) == "".join(pieces)
    assert 1_000_000 < len(text_of(rest)) < 5_000_000


@pytest.mark.parametrize("policy", [DETACH, DRAIN], ids=["detach", "drain"])
async def test_a_turn_goes_on_without_its_caller(tmp_path: Path, policy: dict[str, Any]) -> None:
    """The caller goes away in the middle; the engine runs on, and who resumes gets the rest, live and once."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile(**policy)) as stub:
        with context.use(OURS):
            last = await begin(stub, model)
            rest = asyncio.create_task(resume(stub, last.sequence))
            model.say("two ", "three ")
            await eventually_says(stub, "one two three ")
            assert (await fetch(stub)).state == chat_pb2.TURN_STATE_RUNNING
            model.say("four", "")
            events = await rest
            assert text_of(events) == "two three four"
            assert events[-1].finished.usage.completion_tokens == 4
            assert (await fetch(stub)).state == chat_pb2.TURN_STATE_FINISHED


async def eventually_says(stub: Stub, text: str) -> None:
    """Returns when the turn has released this text."""
    async with asyncio.timeout(TIMEOUT):
        while text_of(list((await fetch(stub)).events)) != text:  # noqa: ASYNC110  # it is behind a call
            await asyncio.sleep(0.001)


async def test_a_turn_ends_with_its_caller(tmp_path: Path) -> None:
    """By default the engine stops; what was released can be fetched, and the end is told."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile()) as stub:
        with context.use(OURS):
            last = await begin(stub, model)
            await asyncio.wait_for(model.stopped.wait(), TIMEOUT)
            with pytest.raises(CancelledCallError) as failure:
                await resume(stub, last.sequence)
            assert failure.value.reason == "TURN_CANCELLED"
            answer = await fetch(stub)
    assert text_of(list(answer.events)) == "one "
    assert (answer.state, answer.failure.status) == (chat_pb2.TURN_STATE_FAILED, "CANCELLED")


async def test_a_caller_comes_back_within_the_grace(tmp_path: Path) -> None:
    """The turn goes on into the log for its caller, who resumes it and gets the rest, live and once."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile(reconnect_grace=3600)) as stub:
        with context.use(OURS):
            last = await begin(stub, model)
            model.say("two ")
            await eventually_says(stub, "one two ")
            rest = asyncio.create_task(resume(stub, last.sequence))
            model.say("three", "")
            assert text_of(await rest) == "two three"


async def test_the_grace_ends(tmp_path: Path) -> None:
    """Nobody comes back, or who came leaves again: the engine stops, and the turn ends as one without a grace does."""
    for comes_back in (False, True):
        (directory := tmp_path / str(comes_back)).mkdir()
        model = Model()
        # Long enough to come back in, when somebody does.
        policy = profile(reconnect_grace=2 if comes_back else 0.01)
        async with serving.serving(Script(generate=model.generate), directory, policy) as stub:
            with context.use(OURS):
                last = await begin(stub, model)
                if comes_back:
                    await read_one(stub)
                    assert not model.stopped.is_set()
                await asyncio.wait_for(model.stopped.wait(), TIMEOUT)
                failure = await failure_of(resume(stub, last.sequence))
                assert (type(failure), failure.reason) == (CancelledCallError, "TURN_CANCELLED")
                assert text_of(list((await fetch(stub)).events)) == "one "


async def test_a_reader_at_another_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn with a grace goes on while the log says that somebody follows it elsewhere, or cannot tell."""
    answers: list[bool | None] = [True, None, True, False]

    async def followed(log: SqliteLog, turn: str) -> bool:
        del log
        assert turn == "turn-1"
        assert not model.stopped.is_set()
        answer = answers.pop(0)
        if answer is None:
            raise UnavailableError("the turn log cannot be used")
        return answer

    monkeypatch.setattr(SqliteLog, "followed", followed)
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile(reconnect_grace=0.01)) as stub:
        with context.use(OURS):
            await begin(stub, model)
            await asyncio.wait_for(model.stopped.wait(), TIMEOUT)
    assert not answers


async def read_one(stub: Stub) -> None:
    """Reads the turn's first event once more, and leaves."""
    async with calls.stream(stub.Resume, chat_pb2.ResumeRequest(turn_id="turn-1"), timeout=TIMEOUT) as events:
        await events.read()


async def test_a_turn_lives_as_long_as_somebody_follows_it(tmp_path: Path) -> None:
    """Its caller leaves it to another reader, and only when that one leaves, too, the engine stops."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile()) as stub:
        with context.use(OURS):
            async with calls.stream(stub.Chat, request(), timeout=TIMEOUT) as first:
                await first.read()
                asked = chat_pb2.ResumeRequest(turn_id="turn-1")
                second = stub.Resume(asked, timeout=TIMEOUT)
                await second.read()
            model.say("one ")
            await eventually_says(stub, "one ")
            model.say("two ")
            await eventually_says(stub, "one two ")
            assert not model.stopped.is_set()
            second.cancel()
            await asyncio.wait_for(model.stopped.wait(), TIMEOUT)


@pytest.mark.parametrize("word", ["cancel", "detach"])
async def test_the_caller_decides_where_the_profile_lets_it(tmp_path: Path, word: str) -> None:
    """A request's word counts before the profile's."""
    model = Model()
    other = "detach" if word == "cancel" else "cancel"
    allowing = profile(disconnect=other, allow_overrides=["disconnect"])
    asked = request(disconnect=chat_pb2.Disconnect.Value(f"DISCONNECT_{word.upper()}"))
    async with serving.serving(Script(generate=model.generate), tmp_path, allowing) as stub:
        with context.use(OURS):
            last = await begin(stub, model, asked)
            if word == "cancel":
                await asyncio.wait_for(model.stopped.wait(), TIMEOUT)
            else:
                model.say("two", "")
                assert text_of(await resume(stub, last.sequence)) == "two"


@pytest.mark.parametrize(
    ("asked", "reason"), [(chat_pb2.DISCONNECT_DETACH, "OVERRIDE_NOT_ALLOWED"), (9, "FIELD_INVALID")]
)
async def test_otherwise_it_is_refused(tmp_path: Path, asked: Any, reason: str) -> None:
    """What the profile does not allow, and what does not exist, is refused with the field."""
    async with serving.serving(Script(), tmp_path, profile()) as stub:
        with context.use(OURS), pytest.raises(InvalidArgumentError) as failure:
            async with calls.stream(stub.Chat, request(disconnect=asked), timeout=TIMEOUT) as events:
                await events.read()
    assert (failure.value.field, failure.value.reason) == ("disconnect", reason)


@pytest.mark.parametrize(
    ("owner", "asks", "may"),
    [
        (("", "s-1"), ("", "s-1"), True),
        (("", "s-1"), ("", "s-2"), False),
        (("", "s-1"), ("acme", "s-1"), False),
        (("acme", "s-1"), ("acme", "s-2"), True),
        (("acme", "s-1"), ("evil", "s-1"), False),
        (("acme", "s-1"), ("", "s-1"), False),
    ],
)
async def test_only_its_owner_sees_a_turn(
    tmp_path: Path, owner: tuple[str, str], asks: tuple[str, str], may: bool
) -> None:
    """For others a turn does not exist: they cannot read, fetch or cancel it, nor tell it from one that never was."""

    def identity(who: tuple[str, str], turn: str = "") -> RequestContext:
        return RequestContext(tenant_id=who[0], session_id=who[1], request_id=turn)

    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile(**DETACH)) as stub:
        with context.use(identity(owner, "turn-1")):
            await begin(stub, model)
        with context.use(identity(asks)):
            unknown = await failure_of(fetch(stub, "turn-2"))
            assert isinstance(unknown, NotFoundError)
            cancel = chat_pb2.CancelTurnRequest(turn_id="turn-1")
            cancelling = calls.unary(stub.CancelTurn, cancel, timeout=TIMEOUT)
            if may:
                assert (await fetch(stub)).events
                await cancelling
                assert await resume(stub, 1)
            else:
                for attempt in (fetch(stub), resume(stub), cancelling):
                    refused = await failure_of(attempt)
                    assert (type(refused), str(refused.message)) == (NotFoundError, unknown.message)
                assert not model.stopped.is_set()


async def failure_of(attempt: Any) -> MeshError:
    with pytest.raises(MeshError) as failure:
        await attempt
    return failure.value


async def test_cancelled_from_another_call(tmp_path: Path) -> None:
    """The reader gets what was released and a good end, with the account of the engine, which has stopped."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile()) as stub:
        with context.use(OURS):
            async with calls.stream(stub.Chat, request(), timeout=TIMEOUT) as events:
                model.say("one ")
                reading = aiter(events)
                heard = [await anext(reading), await anext(reading)]
                for _ in range(2):  # a second time changes nothing
                    await calls.unary(stub.CancelTurn, chat_pb2.CancelTurnRequest(turn_id="turn-1"), timeout=TIMEOUT)
                assert model.stopped.is_set()
                heard += [event async for event in reading]
            assert heard == await resume(stub)
            await calls.unary(stub.CancelTurn, chat_pb2.CancelTurnRequest(turn_id="turn-1"), timeout=TIMEOUT)
            assert heard == await resume(stub)
    finished = heard[-1]
    assert finished.finished.reason == generation_pb2.FINISH_REASON_CANCELLED
    assert finished.finished.usage.completion_tokens == 1


async def test_a_failure_is_the_same_for_all(tmp_path: Path) -> None:
    """Who resumes a turn that failed gets the events and then the error that its caller got."""

    async def breaks(requests: Asked) -> Generated:
        await anext(requests)
        yield begun()
        yield said("one")

    async with serving.serving(Script(generate=breaks), tmp_path, profile()) as stub:
        with context.use(OURS):
            heard: list[chat_pb2.ChatEvent] = []
            with pytest.raises(InternalError) as first:
                await serving.collect(stub, heard)
            with pytest.raises(InternalError) as second:
                await resume(stub, 1)
            assert list((await fetch(stub)).events) == heard
    assert (second.value.reason, second.value.message) == (first.value.reason, first.value.message)
    assert first.value.reason == "ENGINE_BROKEN"


async def test_the_callers_deadline(tmp_path: Path) -> None:
    """It ends a turn that drains, and does not end one that is detached."""
    models = {"drain": Model(), "detach": Model()}
    for word, model in models.items():
        (directory := tmp_path / word).mkdir()
        async with serving.serving(Script(generate=model.generate), directory, profile(disconnect=word)) as stub:
            with context.use(OURS):
                with pytest.raises(DeadlineExceededError):
                    async with calls.stream(stub.Chat, request(), timeout=1.5) as events:
                        _ = [event async for event in events]
                if word == "drain":
                    assert isinstance(await failure_of(resume(stub)), DeadlineExceededError)
                else:
                    model.say("late", "")
                    assert text_of(await resume(stub)) == "late"


async def test_a_turn_runs_once(tmp_path: Path) -> None:
    """A second call with the id of a running turn is refused, and the turn goes on."""
    model = Model()
    async with serving.serving(Script(generate=model.generate), tmp_path, profile(**DETACH)) as stub:
        with context.use(OURS):
            await begin(stub, model)
            with pytest.raises(FailedPreconditionError) as failure:
                await begin(stub, model)
            assert failure.value.reason == "TURN_EXISTS"
            model.say("")
            assert text_of(await resume(stub)) == "one "


async def test_a_slow_log_slows_the_turn(tmp_path: Path) -> None:
    """A backlog of one byte makes each event wait for the one before it; none is lost."""
    words = [f"{number} " for number in range(200)]
    script = Script(generate=serving.says(*words))
    async with serving.serving(script, tmp_path, profile(), backlog=1) as stub:
        with context.use(OURS):
            assert text_of(await serving.run(stub)) == "".join(words)
            assert text_of(await resume(stub)) == "".join(words)


async def test_a_turn_waits_for_room_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log has no room, nothing is released; when it has, all is."""
    asked, given = asyncio.Event(), asyncio.Event()

    async def room(backlog: Backlog) -> None:
        del backlog
        asked.set()
        await given.wait()

    monkeypatch.setattr(Backlog, "room", room)
    async with serving.serving(Script(), tmp_path, profile()) as stub:
        with context.use(OURS):
            heard: list[chat_pb2.ChatEvent] = []
            reading = asyncio.create_task(serving.collect(stub, heard))
            await asyncio.wait_for(asked.wait(), TIMEOUT)
            assert (await fetch(stub)).events == []
            assert not heard
            given.set()
            await reading
            assert text_of(heard) == "hello"


@pytest.mark.parametrize(
    ("turn", "after", "field"), [("", 0, "turn_id"), ("ä", 0, "turn_id"), ("t", 2**63, "after_sequence")]
)
async def test_what_no_turn_has_is_refused(tmp_path: Path, turn: str, after: int, field: str) -> None:
    """Ids and numbers that cannot be are told apart from turns that are not there."""
    async with serving.serving(Script(), tmp_path, profile()) as stub:
        with context.use(OURS), pytest.raises(InvalidArgumentError) as failure:
            await resume(stub, after, turn)
    assert failure.value.field == field


@pytest.mark.parametrize("policy", [DETACH, {"reconnect_grace": 3600}], ids=["detach", "grace"])
async def test_a_service_that_stops_seals_what_runs(tmp_path: Path, policy: dict[str, Any]) -> None:
    """A turn that nobody reads ends with the service, and its log says so afterwards."""
    model = Model()
    log = tmp_path / "turns.db"
    script = Script(generate=model.generate)
    async with serving.serving(script, tmp_path, profile(**policy), log_file=log) as stub:
        with context.use(OURS):
            await begin(stub, model)
    async with serving.serving(script, tmp_path, profile(), log_file=log) as stub:
        with context.use(OURS):
            failure = await failure_of(resume(stub))
            assert failure.reason == "SERVICE_STOPPING"
            assert text_of(list((await fetch(stub)).events)) == "one "
