"""P16: what users and models say is in no log line, span or metric, and one line tells of the end of every turn."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from services.shield.catalogue import Catalogue
from services.shield.servicer import ShieldServicer
from shieldmesh.errors import MeshError
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

from .fakes import shields
from .mesh import TIMEOUT, Mesh, deny, eventually, running
from .observing import Observed, observed

MARK: Final = "xanadu"
"""What users and models say in these tests, and nobody else."""

PROFILES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "guarded": {"input": {"shields": [deny("nothing")]}, "output": {"shields": [deny(MARK, "redact")]}},
    "blocking": {"output": {"shields": [deny(MARK)]}},
    "refusing": {"input": {"mode": "gate", "shields": [deny(MARK)]}},
    "broken": {"model_options": {"fail_after": 1}},
    "hurried": {"model_options": {"pace": 1}, "limits": {"duration": 0.2}},
    "slow": {"model_options": {"pace": 5}},
}


@pytest.mark.parametrize(
    ("profile", "event", "reason"),
    [
        ("plain", "turn finished", "STOP"),
        ("guarded", "turn finished", "STOP"),
        ("blocking", "turn finished", "CONTENT_FILTER"),
        ("refusing", "turn finished", "CONTENT_FILTER"),
        ("broken", "turn failed", "ENGINE_FAILED"),
        ("hurried", "turn failed", "TURN_TOO_LONG"),
        (MARK, "turn failed", "PROFILE_NOT_FOUND"),
    ],
)
async def test_a_turn_that_ends_is_told_in_one_line_without_its_texts(
    tmp_path: Path, profile: str, event: str, reason: str
) -> None:
    """However a turn ends, one line tells how, and nothing that was said is anywhere."""
    with observed() as seen:
        async with running(tmp_path, profiles=PROFILES) as mesh, mesh.client as client:
            with suppress(MeshError):
                await client.chat(f"{MARK} and more {MARK}", profile=profile, timeout=TIMEOUT).result()
            await mesh.idle()
    (line,) = turn_lines(seen)
    assert (line["event"], line.get("error") or line["reason"]) == (event, reason)
    assert {"turn", "session", "trace", "span", "service", "instance"} <= line.keys()
    assert_silent(seen)


@pytest.mark.parametrize("moment", ["before the first token", "in the middle"])
async def test_a_turn_that_is_cancelled_is_told_in_one_line_with_its_cost(tmp_path: Path, moment: str) -> None:
    """A client that goes away leaves one line, and the tokens in it are those in the metric."""
    with observed() as seen:
        async with running(tmp_path, profiles=PROFILES) as mesh:
            await go_away(mesh, after="started" if moment == "before the first token" else "delta")
            await eventually(lambda: bool(turn_lines(seen)))
            await mesh.idle()
    (line,) = turn_lines(seen)
    assert line["event"] == "turn cancelled"
    usage = seen.sums("gen_ai.client.token.usage", "gen_ai.token.type")
    assert usage == {
        "input": line["prompt_tokens"],
        "cache_read": line["cached_tokens"],
        "output": line["completion_tokens"],
    }
    assert line["completion_tokens"] == mesh.generated()
    assert_silent(seen)


async def test_a_shield_that_fails_over_a_text_does_not_repeat_it(tmp_path: Path) -> None:
    """The exception of a shield quotes the text; the log and the spans do not."""
    broken = shields(ShieldServicer(QuotingCatalogue(capacity=8, default_timeout=5.0), max_characters=1_000))
    with observed() as seen:
        async with running(tmp_path, profiles=PROFILES, replaced={"shield": broken}) as mesh, mesh.client as client:
            with pytest.raises(MeshError):
                await client.chat(MARK, profile="guarded", timeout=TIMEOUT).result()
            await mesh.idle()
    (line,) = turn_lines(seen)
    assert line["event"] == "turn failed"
    assert_silent(seen)


async def test_ten_turns_have_ten_lines(tmp_path: Path) -> None:
    """Turns side by side have a line each, with their own identity and no other."""
    with observed() as seen:
        async with running(tmp_path, profiles=PROFILES) as mesh, mesh.client as client:
            talks = [client.chat(MARK, profile="guarded", timeout=TIMEOUT).result() for _ in range(10)]
            results = await asyncio.gather(*talks)
            await mesh.idle()
    told = {(line["turn"], line["session"], line["trace"]) for line in turn_lines(seen)}
    assert told == {(each.started.turn_id, each.started.session_id, each.started.trace_id) for each in results}
    assert len(turn_lines(seen)) == 10


class QuotingCatalogue(Catalogue):
    """Fails with what it was asked for."""

    async def shields(self, *_: object, **__: object) -> Any:
        raise ValueError(f"{MARK} is no good")


async def go_away(mesh: Mesh, *, after: str) -> None:
    async with grpc.aio.insecure_channel(mesh.target("gateway")) as channel:
        stub: Any = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.ChatRequest(profile="slow")
        request.messages.add(role="ROLE_USER").parts.add(text=f"{MARK} one two three four " * 20)
        call = stub.Chat(request, timeout=TIMEOUT)
        while not (await call.read()).HasField(after):
            pass
        call.cancel()


def turn_lines(seen: Observed) -> list[dict[str, Any]]:
    return [line for line in seen.lines() if line["event"].startswith("turn ")]


def assert_silent(seen: Observed) -> None:
    """Nothing that was recorded holds the mark."""
    data = seen.reader.get_metrics_data()
    assert MARK not in seen.stream.getvalue()
    assert MARK not in json.dumps([json.loads(span.to_json()) for span in seen.spans.ended])
    assert MARK not in (data.to_json() if data else "")
    assert seen.spans.ended
