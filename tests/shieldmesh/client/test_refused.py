"""Turns for which there is no place."""

import pytest

import shieldmesh
from shieldmesh import Event, Reconnect, Reconnected, ResourceExhaustedError
from shieldmesh.client.reconnect import Acquaintance, Reading
from shieldmesh.client.request import build_call
from shieldmesh.errors import Hop
from shieldmesh.v1 import chat_pb2

from .flaky import FlakyChat, at, serving, turn

LIMIT = 60.0
"""Seconds after which a test that hangs fails."""
PATIENT = Reconnect(attempts=100, time=1_000)


def refusal(retry_after: float | None = 0.01) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "busy", reason="QUEUE_FULL", retry_after=retry_after, hops=[Hop("gateway", "Chat", "i")]
    )


def reading(mesh: Acquaintance | None = None, policy: Reconnect | None = PATIENT) -> Reading:
    return Reading(build_call("hi", timeout=None), policy, mesh or Acquaintance())


async def read(chat: FlakyChat) -> list[Event]:
    async with serving(chat) as url, shieldmesh.connect(url) as mesh:
        return [event async for event in mesh.chat("hi", timeout=LIMIT)]


async def test_a_turn_that_found_no_place_is_asked_for_again() -> None:
    """After the time that the refusal names, with the same key; nothing broke, so nothing is told."""
    chat = FlakyChat([(0, at(refusal(), "gateway")), (0, at(refusal(), "gateway", "orchestrator"))])
    events = await read(chat)
    assert [event.sequence for event in events] == list(range(1, 11))
    assert not [event for event in events if isinstance(event, Reconnected)]
    keys = [request.idempotency_key for request in chat.asked if isinstance(request, chat_pb2.ChatRequest)]
    assert (len(keys), len(set(keys))) == (3, 1)


async def test_what_a_turn_that_has_begun_is_refused_is_told() -> None:
    """A model without a place is the end of its turn, and asking for the same turn again would bring the same."""
    chat = FlakyChat([(1, at(refusal(), "gateway", "orchestrator", "inference"))])
    with pytest.raises(ResourceExhaustedError):
        await read(chat)
    assert len(chat.asked) == 1


def test_the_time_to_come_back_is_kept() -> None:
    """No call before it; where the policy does not reach so far, or no time is named, the refusal is told at once."""
    assert reading().failed(refusal(500)) == 500
    for policy, error in ((PATIENT, refusal(1_001)), (PATIENT, refusal(None)), (None, refusal())):
        with pytest.raises(ResourceExhaustedError):
            reading(policy=policy).failed(error)


def test_all_turns_of_a_client_share_one_budget() -> None:
    """When most turns are refused, the client adds no calls to the load; with those that begin, it may again."""
    mesh = Acquaintance()
    for _ in range(9):
        reading(mesh).failed(refusal())
    for _ in range(20):
        with pytest.raises(ResourceExhaustedError):
            reading(mesh).failed(refusal())
    for _ in range(200):
        reading(mesh).read(turn(3)[0])
    reading(mesh).failed(refusal())


def test_connections_that_break_cost_no_budget() -> None:
    """A mesh that is not reached has no load from it, and turns that have begun are none of its new ones."""
    mesh = Acquaintance(answered=True)
    begun = reading(mesh)
    begun.read(turn(3)[0])
    for _ in range(50):
        reading(mesh).failed(shieldmesh.UnavailableError("gone", hops=[Hop("gateway", "Chat")]))
        begun.failed(shieldmesh.UnavailableError("gone", hops=[Hop("gateway", "Chat", "i")]))
    assert reading(mesh).failed(refusal()) > 0
