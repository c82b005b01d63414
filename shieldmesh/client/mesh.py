"""The client of a mesh."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self
from weakref import WeakSet

from shieldmesh.client.request import DEFAULT_TIMEOUT, Message, Sampling, build_call, wrap_call
from shieldmesh.client.turn import Turn
from shieldmesh.client.url import DEFAULT_URL, parse_url
from shieldmesh.v1 import chat_pb2


def connect(url: str = DEFAULT_URL) -> "Mesh":
    """A client of the mesh at `url`: `mesh://host:port`, `grpc://…`, `host:port` or `unix:/path`.

    Nothing is sent before the first turn is read. All clients of one event loop share one connection to the same
    mesh, which the loop closes at its end; the client itself may be used under one loop after the other.

        async with shieldmesh.connect() as mesh:
            async for event in mesh.chat("Why is the sky blue?"):
                ...

    Raises:
        ValueError: `url` names no mesh.
    """
    return Mesh(parse_url(url))


class Mesh:
    """A mesh to talk to; see `connect`.

    Attributes:
        target: Where it is, in gRPC's notation.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._turns: WeakSet[Turn] = WeakSet()

    def chat(
        self,
        prompt: str | Sequence[Message],
        *,
        profile: str = "",
        session: str = "",
        sampling: Sampling | None = None,
        values: Mapping[str, str] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> Turn:
        """One turn, which begins when its first event is asked for.

        Args:
            prompt: What the user says, or the whole conversation.
            profile: The policy to use; "" means "default".
            session: The conversation this turn belongs to: 1 to 128 of [A-Za-z0-9._:-]. Without one it is a new one.
            sampling: Overrides of the profile's sampling.
            values: Session values that the gateway lets callers set; they reach every service of the turn.
            timeout: Seconds the whole turn may take; None leaves it to the gateway.

        Raises:
            InvalidArgumentError: a value cannot be sent; `field` names it.
        """
        call = build_call(prompt, profile=profile, session=session, sampling=sampling, values=values, timeout=timeout)
        return self._turn(Turn(self.target, call))

    def run(self, request: chat_pb2.ChatRequest, *, session: str = "", timeout: float | None = DEFAULT_TIMEOUT) -> Turn:
        """One turn from a request of the contract itself, for what `chat` has no argument for (tools, formats).

        Raises:
            InvalidArgumentError: the session id or the timeout is none.
        """
        return self._turn(Turn(self.target, wrap_call(request, session=session, timeout=timeout)))

    async def aclose(self) -> None:
        """Cancels the turns of this client that still run."""
        for turn in list(self._turns):
            await turn.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _turn(self, turn: Turn) -> Turn:
        self._turns.add(turn)
        return turn
