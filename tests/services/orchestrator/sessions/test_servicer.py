"""SessionService: sessions are shown to their owner, and deleted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shieldmesh.errors import InvalidArgumentError, MeshError, NotFoundError
from shieldmesh.v1 import (
    chat_pb2,
    generation_pb2,
    session_pb2,
    session_pb2_grpc,
)
from tests.services.orchestrator.serving import (
    TIMEOUT,
    Asked,
    Generated,
    Script,
    begun,
    ended,
    profile,
    said,
    serving,
)

from .talking import KEEP, Says, ask, bytes_in, kept, model, said_in, sessions_of, talk


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
