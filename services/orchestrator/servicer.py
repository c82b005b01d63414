"""ChatService as the gateway calls it: find the profile, check the request, run the turn."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from shieldmesh import context
from shieldmesh.errors import NotFoundError
from shieldmesh.profile import Profile, Profiles
from shieldmesh.profile.profiles import Shelf
from shieldmesh.v1 import chat_pb2, chat_pb2_grpc

from .prompt import Prompt
from .report import refused
from .turn import Services, Turn

DEFAULT_PROFILE = "default"


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """See `shieldmesh.v1.ChatService`."""

    def __init__(self, profiles: Callable[[], Profiles], services: Services) -> None:
        """`profiles` gives those of the moment; a turn keeps the one it began with."""
        self._profiles = profiles
        self._services = services

    async def Chat(  # noqa: N802  # the contract's name
        self, request: chat_pb2.ChatRequest, context: object
    ) -> AsyncGenerator[chat_pb2.ChatEvent]:
        """See `shieldmesh.v1.ChatService.Chat`."""
        del context
        with refused():
            shelf = self._shelf()
            profile = _profile(shelf, request.profile or DEFAULT_PROFILE)
            turn = Turn(profile, Prompt(profile, request), self._services, candidate=shelf.get(profile.shadow))
        async with aclosing(turn.events()) as events:
            async for event in events:
                yield event

    def _shelf(self) -> Shelf:
        return self._profiles().of(context.current().tenant_id)


def _profile(shelf: Shelf, name: str) -> Profile:
    profile = shelf.get(name)
    if profile is None:
        expected = f"expected one of {', '.join(sorted(shelf))}" if shelf else "you have none"
        raise NotFoundError(f"there is no such profile: {expected}", reason="PROFILE_NOT_FOUND", field="profile")
    return profile
