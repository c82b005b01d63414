"""Calls that outlast the time that a stopping service gives them hear so, instead of losing their connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shieldmesh.errors import UnavailableError
from shieldmesh.interceptors.call import ServerCall

REASON = "SERVICE_STOPPING"


class Stopping:
    """The calls that a service serves, to be ended all at once."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def serve(self, call: ServerCall) -> AsyncGenerator[None]:
        """Around a call that `cut` may end."""
        del call
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if limit.expired():
                raise UnavailableError("the service stops; try again", reason=REASON) from None
            raise

    def cut(self) -> None:
        """Ends all calls that run: their handlers are cancelled, and their callers hear UNAVAILABLE."""
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
