"""ChatService as the gateway calls it: find the profile, check the request, run the turn; find a turn again."""

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from typing import Final

from shieldmesh import context
from shieldmesh.context import ID_PATTERN
from shieldmesh.errors import InvalidArgumentError, NotFoundError
from shieldmesh.profile import Profile, Profiles
from shieldmesh.profile.profiles import Shelf
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

from .disconnect import disconnect
from .idempotency import earlier
from .log.turn_log import LARGEST_SEQUENCE, Record, owner
from .prompt import Prompt
from .report import refused
from .running import RunningTurns
from .services import Services
from .sessions.mode import history
from .sessions.store import SessionStore
from .snapshot import snapshot
from .turn import Turn

DEFAULT_PROFILE: Final = "default"


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """See `shieldmesh.v1.ChatService`."""

    def __init__(
        self, profiles: Callable[[], Profiles], services: Services, turns: RunningTurns, sessions: SessionStore
    ) -> None:
        """`profiles` gives those of the moment; a turn keeps the one it began with."""
        self._profiles = profiles
        self._services = services
        self._turns = turns
        self._sessions = sessions

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """See `shieldmesh.v1.ChatService.Chat`."""
        del context
        async with aclosing(await self._open(request)) as events:
            async for event in events:
                yield event

    async def Resume(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ResumeRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """See `shieldmesh.v1.ChatService.Resume`."""
        del context
        if request.after_sequence > LARGEST_SEQUENCE:
            raise InvalidArgumentError("no turn has so many events", field="after_sequence")
        await self._own(request.turn_id)
        async with aclosing(self._follow(request.turn_id, request.after_sequence)) as events:
            async for event in events:
                yield event

    async def GetTurn(  # noqa: N802  # the contract's name
        self, request: chat_pb2.GetTurnRequest, context: object
    ) -> chat_pb2.GetTurnResponse:
        """See `shieldmesh.v1.ChatService.GetTurn`."""
        del context
        record = await self._own(request.turn_id)
        return await snapshot(self._turns.log, request.turn_id, record)

    async def CancelTurn(  # noqa: N802  # the contract's name
        self, request: chat_pb2.CancelTurnRequest, context: object
    ) -> chat_pb2.CancelTurnResponse:
        """See `shieldmesh.v1.ChatService.CancelTurn`."""
        del context
        record = await self._own(request.turn_id)
        if not record.sealed:
            await self._turns.stop(request.turn_id)
        return chat_pb2.CancelTurnResponse()

    async def _follow(self, turn: str, after: int = 0) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """The events of a turn that runs or ran, from the log."""
        async with self._turns.following(turn), aclosing(self._turns.log.follow(turn, after)) as events:
            async for event in events:
                yield chat_pb2.ChatEvent.FromString(event)

    async def _open(self, request: chat_pb2.ChatRequest) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """The events of a new turn, or of the one that began with the same key."""
        place = await self._services.places.enter()
        with ExitStack() as stack, refused():
            stack.callback(place.leave)
            turn = self._turn(request)
            if request.idempotency_key:
                known = await earlier(self._turns.log, owner(), turn.identity.request_id, request)
                if known:
                    return self._follow(known)
            running = self._turns.start(turn)
            # The place is the turn's until its work is done, whatever becomes of its call.
            running.when_done(place.leave)
            stack.pop_all()
            return running.events()

    def _turn(self, request: chat_pb2.ChatRequest) -> Turn:
        shelf = self._profiles().of(context.current().tenant_id)
        profile = _profile(shelf, request.profile or DEFAULT_PROFILE)
        return Turn(
            profile,
            Prompt(profile, request),
            self._services,
            candidate=shelf.get(profile.shadow),
            disconnect=disconnect(profile, request.disconnect),
            sessions=self._sessions if history(profile, request.history) == "keep" else None,
        )

    async def _own(self, turn: str) -> Record:
        """What is known of a turn of the current caller.

        Raises:
            NotFoundError: there is none, or it is somebody else's: who asks cannot tell which.
        """
        if not ID_PATTERN.fullmatch(turn):
            raise InvalidArgumentError("the turn's id is not one: expected that of its `started`", field="turn_id")
        record = await self._turns.log.find(turn)
        if record is None or not record.owner.same_as(owner()):
            message = "there is no such turn, or not for this caller: it may be over for long, or of another session"
            raise NotFoundError(message, reason="TURN_NOT_FOUND", field="turn_id")
        return record


def _profile(shelf: Shelf, name: str) -> Profile:
    profile = shelf.get(name)
    if profile is None:
        expected = f"expected one of {', '.join(sorted(shelf))}" if shelf else "you have none"
        raise NotFoundError(f"there is no such profile: {expected}", reason="PROFILE_NOT_FOUND", field="profile")
    return profile
