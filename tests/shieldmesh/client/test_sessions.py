"""Sessions through a gateway, with either client."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import shieldmesh
from shieldmesh import FinishReason, History, Message, NotFoundError, Sampling, SessionRecord, SessionTurn
from tests.promises.mesh import TIMEOUT, Mesh, running

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"history": {"mode": "keep"}},
    "free": {"allow_overrides": ["history", "max_tokens"]},
}


async def test_a_conversation_is_kept_shown_and_deleted(tmp_path: Path) -> None:
    """What a client says is kept under its session, looked at and deleted; the prompt grows by what was kept."""
    async with running(tmp_path, profiles=PROFILES) as mesh, mesh.client as client:
        first = await client.chat("one two", session="s", timeout=TIMEOUT).result()
        second = await client.chat("three", session="s", timeout=TIMEOUT).result()
        assert second.finished.usage.prompt_tokens > first.finished.usage.prompt_tokens
        session = await client.get_session("s", timeout=TIMEOUT)
        assert (session.session_id, session.turns) == ("s", 2)
        assert session.created_at <= session.used_at < session.expires_at
        assert abs(datetime.now(UTC) - session.used_at) < timedelta(minutes=1)
        turns = [turn async for turn in client.list_session_turns("s", timeout=TIMEOUT)]
        assert [turn.messages for turn in turns] == [
            (Message("user", "one two"), Message("assistant", "one two")),
            (Message("user", "three"), Message("assistant", "three")),
        ]
        assert [turn.turn_id for turn in turns] == [first.started.turn_id, second.started.turn_id]
        assert turns[0].usage == first.finished.usage
        assert [each async for each in client.list_sessions(session="s", timeout=TIMEOUT)] == [session]
        assert not [each async for each in client.list_sessions(timeout=TIMEOUT)]
        await client.delete_session("s", timeout=TIMEOUT)
        for gone in (client.get_session("s", timeout=TIMEOUT), client.get_turn(first.started.turn_id, session="s")):
            with pytest.raises(NotFoundError) as refused:
                await gone
            assert [hop.service for hop in refused.value.hops] == ["gateway", "orchestrator"]


async def test_callers_say_it_where_they_may(tmp_path: Path) -> None:
    """`history` goes into the request as it is; a word that does not exist is refused before."""
    async with running(tmp_path, profiles=PROFILES) as mesh, mesh.client as client:
        for history in (History.KEEP, "keep", None, "none"):
            await client.chat("x", profile="free", session="s", history=history, timeout=TIMEOUT).text()
        assert (await client.get_session("s", timeout=TIMEOUT)).turns == 2
        with pytest.raises(shieldmesh.InvalidArgumentError) as refused:
            client.chat("x", history="some")
        assert refused.value.field == "history"


async def test_more_than_a_page(tmp_path: Path) -> None:
    """A client reads on until it has all turns."""
    async with running(tmp_path, profiles=PROFILES) as mesh, mesh.client as client:
        for number in range(60):
            turn = client.chat(f"{number}", profile="free", session="s", history="keep", timeout=TIMEOUT)
            assert (await turn.result()).finished.reason is FinishReason.STOP
        turns = [turn async for turn in client.list_session_turns("s", timeout=TIMEOUT)]
    assert [turn.messages[0].text for turn in turns] == [str(number) for number in range(60)]


async def test_the_blocking_client_does_the_same(tmp_path: Path) -> None:
    """The same calls without an event loop, with the same answers and errors."""
    async with running(tmp_path, profiles=PROFILES) as mesh:
        session, turns, listed = await asyncio.to_thread(blocking, mesh)
    assert session == listed[0]
    assert (session.turns, len(turns)) == (1, 1)
    assert turns[0].messages == (Message("user", "hello"), Message("assistant", "hello"))


def blocking(mesh: Mesh) -> tuple[SessionRecord, list[SessionTurn], list[SessionRecord]]:
    with shieldmesh.connect_sync(mesh.target("gateway")) as client:
        sampling = Sampling(max_tokens=5)
        turn = client.chat("hello", profile="free", session="s", sampling=sampling, history="keep", timeout=TIMEOUT)
        assert turn.text() == "hello"
        session = client.get_session("s", timeout=TIMEOUT)
        turns = list(client.list_session_turns("s", timeout=TIMEOUT))
        listed = list(client.list_sessions(session="s", timeout=TIMEOUT))
        client.delete_session("s", timeout=TIMEOUT)
        with pytest.raises(NotFoundError) as refused:
            client.get_session("s", timeout=TIMEOUT)
        assert refused.value.hops[-1].method == "shieldmesh.v1.SessionService/GetSession"
    return session, turns, listed
