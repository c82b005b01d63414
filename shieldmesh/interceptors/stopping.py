"""Calls that outlast the time that a stopping service gives them hear so, instead of losing their connection."""

from contextlib import AbstractContextManager
from types import TracebackType

from shieldmesh.errors import UnavailableError
from shieldmesh.interceptors.call import ServerCall
from shieldmesh.interceptors.limit import Limit

REASON = "SERVICE_STOPPING"


class Stopping:
    """The calls that a service serves, to be ended all at once."""

    def __init__(self) -> None:
        self._running: set[_Running] = set()

    def serve(self, call: ServerCall) -> AbstractContextManager[None]:
        """Around a call that `cut` may end."""
        return _Running(call, self._running)

    def cut(self) -> None:
        """Ends all calls that run: their handlers are cancelled, and their callers hear UNAVAILABLE."""
        for call in self._running:
            call.end()


class _Running(Limit):
    __slots__ = ("_all",)

    def __init__(self, call: ServerCall, together: "set[_Running]") -> None:
        super().__init__(call)
        self._all = together

    def __enter__(self) -> None:
        self._all.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        self._all.discard(self)
        if self.is_why(kind):
            raise UnavailableError("the service stops; try again", reason=REASON) from None
